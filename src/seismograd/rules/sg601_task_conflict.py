"""SG601 task-conflict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, final

from seismograd.analysis.loss_pairs import LossPair, LossPairs, cosines
from seismograd.analysis.medians import median
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import Evidence, Fact, Finding, RowBatch


@final
@dataclass
class TaskConflict(Rule):
    """Two losses pull the shared weights in opposite directions.

    What it finds
        Models trained on several losses whose gradients have pointed in opposite directions most of
        the time, from the beginning.

    Why it hurts
        A step that lowers one loss raises the other. The sum of the gradients is shorter than
        either of them, so both tasks learn slowly, or the stronger one learns and undoes the weaker
        one step by step.

    How it decides
        Losses that are backpropagated separately within one step, or that the script names with
        `seismograd.losses`, are compared at some of the steps by the cosine between their gradients
        over all parameters that both reach. They conflict if the median cosine is at most
        {max_cosine:g} and the cosine is below zero in {min_share:.0%} of at least {min_samples:g}
        comparisons, among the first ones as well as among the last. A penalty and a loss that end
        in balance start without a conflict and are not reported; neither are losses of different
        forward passes in a script with several optimizers, such as those of a discriminator. Losses
        that are summed before one backward are not judged: name them with `seismograd.losses`.

    False alarms
        Adversarial losses that a single optimizer trains on purpose.

    What to try
        - Weight the losses, so that the one that matters dominates.
        - Project the conflicting parts out of the gradients (PCGrad), or use a direction that
          lowers both losses (MGDA, UPGrad): `seismograd.losses` does this in one line that replaces
          the backward calls.
        - Share less: give each task more layers of its own.

    References
        - Yu, Kumar, Gupta, Levine, Hausman, Finn (2020), Gradient surgery for multi-task learning.
        - Quinton, Rey (2024), Jacobian descent for multi-objective optimization.
    """

    code: ClassVar[str] = "SG601"
    name: ClassVar[str] = "task-conflict"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ()

    max_cosine: float = -0.3
    min_share: float = 0.8
    min_samples: int = 6

    _pairs: LossPairs = field(default_factory=LossPairs, init=False, repr=False)
    _guilty: LossPair | None = field(default=None, init=False, repr=False)

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        for pair, step in self._pairs.add(block):
            if not self.found and not pair.summed and self._conflict(pair):
                self._guilty = pair
                self.found.add(self._describe(block, pair, step))
            elif pair is self._guilty and pair.late[-1].cosine < 0:
                self.found.extend(step)
        return self.found.take()

    def learn(self, fact: Fact) -> Iterable[Finding]:
        self._pairs.learn(fact)
        return ()

    def shortfall(self) -> Message | None:
        return self._pairs.shortfall(self.min_samples, summed=False)

    def _conflict(self, pair: LossPair) -> bool:
        return all(
            len(cosine) >= self.min_samples
            and median(cosine) <= self.max_cosine
            and float((cosine < 0).mean()) >= self.min_share
            for cosine in (cosines(pair.early), cosines(pair.late))
        )

    def _describe(self, block: RowBatch, pair: LossPair, step: int) -> Finding:
        cosine = median(cosines(pair.late))
        last = next(each for each in reversed(pair.late) if each.cosine < 0)
        shared = {
            int(each)
            for each in block.pairs["parameter"][block.pairs["iteration"] == step]
            if each >= 0
        }
        first = next(each.step for each in pair.early if each.cosine < 0)
        return self.finding(
            first_step=first,
            last_step=step,
            parameters=tuple(
                block.parameters[column].name
                for column in sorted(shared)
                if column < len(block.parameters)
            ),
            evidence=(Evidence("cosine", "", last.step, last.cosine, self.max_cosine),),
            cause=say(
                "the losses {one} and {other} conflict: the median cosine between their gradients "
                "is {cosine:.2f} (comparisons: {num})",
                one=pair.name(second=False),
                other=pair.name(second=True),
                cosine=cosine,
                num=len(cosines(pair.late)),
            ),
            advice=say(
                "weight the losses, remove the conflict from their gradients (PCGrad, UPGrad: "
                "seismograd.losses), or let the tasks share fewer layers"
            ),
            where=str(pair.second),
        )
