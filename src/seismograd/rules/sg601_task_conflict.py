"""SG601 task-conflict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.loss_pairs import LossPair, LossPairs, cosines
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import Evidence, Finding, RowBatch


@final
@dataclass
class TaskConflict(Rule):
    """Two losses pull the shared weights in opposite directions.

    What it finds
        Models that are trained on several losses whose gradients point against each other most of
        the time, from the beginning on.

    Why it hurts
        What one loss gains the other loses. The sum of the gradients is shorter than either, so
        both tasks learn slowly, or the stronger one learns and the weaker one is undone step by
        step.

    How it decides
        Losses that are backpropagated apart within one step, or that the script names with
        `seismograd.losses`, are compared on some of the steps: the cosine between their gradients
        over all parameters that both reach. They are in conflict when it is at most {max_cosine:g}
        in the median, and below zero in {min_share:.0%} of at least {min_samples:g} comparisons,
        among the first ones as well as among the last. A penalty and a loss that end in balance
        begin without a conflict, and are not reported; nor are losses of different forward passes
        in a script with several optimizers, as those of a discriminator.

    False alarms
        Losses that are meant to be played against each other by one optimizer alone.

    What to try
        - Weigh the losses against each other, so that the one that matters leads.
        - Project what conflicts out of the gradients (PCGrad), or look for a direction that serves
          both (MGDA, UPGrad): `seismograd.losses` does this in one line in place of the backwards.
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
    _finding: Finding | None = field(default=None, init=False, repr=False)
    _guilty: LossPair | None = field(default=None, init=False, repr=False)

    def observe(self, block: RowBatch) -> Iterator[Finding]:
        changed = False
        for pair, step in self._pairs.add(block):
            if self._finding is None and self._conflict(pair):
                self._guilty, self._finding, changed = pair, self._found(block, pair, step), True
            elif self._finding is not None and pair is self._guilty and pair.late[-1].cosine < 0:
                self._finding, changed = replace(self._finding, last_step=step), True
        if changed and self._finding is not None:
            yield self._finding

    def shortfall(self) -> Message | None:
        return self._pairs.shortfall(self.min_samples)

    def _conflict(self, pair: LossPair) -> bool:
        return all(
            len(cosine) >= self.min_samples
            and float(np.median(cosine)) <= self.max_cosine
            and float((cosine < 0).mean()) >= self.min_share
            for cosine in (cosines(pair.early), cosines(pair.late))
        )

    def _found(self, block: RowBatch, pair: LossPair, step: int) -> Finding:
        cosine = float(np.median(cosines(pair.late)))
        last = next(each for each in reversed(pair.late) if each.cosine < 0)
        shared = {
            int(each)
            for each in block.pairs["parameter"][block.pairs["iteration"] == step]
            if each >= 0
        }
        first = next(each.step for each in pair.early if each.cosine < 0)
        return Finding(
            code=self.code,
            name=self.name,
            severity=self.severity,
            optimizer=-1,
            first_step=first,
            last_step=step,
            parameters=tuple(
                block.parameters[column].name
                for column in sorted(shared)
                if column < len(block.parameters)
            ),
            evidence=(Evidence("cosine", "", last.step, last.cosine, self.max_cosine),),
            cause=say(
                "the losses {one} and {other} pull against each other: the cosine between their "
                "gradients is {cosine:.2f} in the median of "
                "{num} comparisons",
                one=pair.name(second=False),
                other=pair.name(second=True),
                cosine=cosine,
                num=len(cosines(pair.late)),
            ),
            advice=say(
                "weigh the losses, take the conflict out of their gradients (PCGrad, UPGrad: "
                "seismograd.losses), or let the tasks share "
                "fewer layers"
            ),
            where=str(pair.second),
            excerpt="",
        )
