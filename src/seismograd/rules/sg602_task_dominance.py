"""SG602 task-dominance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.loss_pairs import LossPair, LossPairs, ratios
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import Evidence, Finding, RowBatch


@final
@dataclass
class TaskDominance(Rule):
    """One loss drowns another: its gradient is many times as large.

    What it finds
        Models trained on several losses of which one makes the whole gradient, and the others as
        good as nothing of it.

    Why it hurts
        Optimizers see the sum. What adds a thirtieth of it decides nothing: the small loss is not
        trained, however well it is meant. Often the reason is only its unit: a squared error in
        pixels beside a cross entropy.

    How it decides
        Losses that are backpropagated apart within one step, or that the script names with
        `seismograd.losses`, are compared on some of the steps: the norms of their gradients over
        all parameters that both reach. One dominates when it is at least {min_ratio:g} times as
        large in {min_share:.0%} of at least {min_samples:g} comparisons. A loss that the script
        itself multiplies by a small number is meant to be small, and is not reported.

    False alarms
        A small loss that is meant to be small, when no number in the script says so.

    What to try
        - Multiply the small loss by a weight, or divide the large one, so that their gradients are
          about as large.
        - Normalise targets to unit variance; take means over the same things in all losses.
        - Learn the weights (uncertainty weighting), or balance the norms (GradNorm);
          `seismograd.losses` can do the latter.

    References
        - Kendall, Gal, Cipolla (2018), Multi-task learning using uncertainty to weigh losses.
        - Chen, Badrinarayanan, Lee, Rabinovich (2018), GradNorm.
    """

    code: ClassVar[str] = "SG602"
    name: ClassVar[str] = "task-dominance"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ()

    min_ratio: float = 30.0
    min_share: float = 0.9
    min_samples: int = 6

    _pairs: LossPairs = field(default_factory=LossPairs, init=False, repr=False)
    _finding: Finding | None = field(default=None, init=False, repr=False)
    _guilty: LossPair | None = field(default=None, init=False, repr=False)

    def observe(self, block: RowBatch) -> Iterator[Finding]:
        changed = False
        for pair, step in self._pairs.add(block):
            larger = self._larger(pair)
            if self._finding is None and larger is not None:
                self._guilty, self._finding, changed = (
                    pair,
                    self._found(block, pair, step, larger),
                    True,
                )
            elif self._finding is not None and pair is self._guilty and larger is not None:
                self._finding, changed = replace(self._finding, last_step=step), True
        if changed and self._finding is not None:
            yield self._finding

    def shortfall(self) -> Message | None:
        return self._pairs.shortfall(self.min_samples)

    def _larger(self, pair: LossPair) -> int | None:
        """Which of two losses dominates, 0 or 1."""
        ratio = ratios(pair.late)
        if len(ratio) < self.min_samples:
            return None
        shares = (
            float((ratio >= self.min_ratio).mean()),
            float((ratio <= 1 / self.min_ratio).mean()),
        )
        larger = 0 if shares[0] >= shares[1] else 1
        return (
            larger if shares[larger] >= self.min_share and not pair.rescaled[1 - larger] else None
        )

    def _found(self, block: RowBatch, pair: LossPair, step: int, larger: int) -> Finding:
        ratio = float(np.median(ratios(pair.late)))
        last = pair.late[-1]
        norms = (last.first_norm, last.second_norm)
        times = ratio if larger == 0 else 1 / ratio
        shared = {
            int(each)
            for each in block.pairs["parameter"][block.pairs["iteration"] == step]
            if each >= 0
        }
        return Finding(
            code=self.code,
            name=self.name,
            severity=self.severity,
            optimizer=-1,
            first_step=pair.late[0].step,
            last_step=step,
            parameters=tuple(
                block.parameters[column].name
                for column in sorted(shared)
                if column < len(block.parameters)
            ),
            evidence=(
                Evidence(
                    "loss_grad_norm",
                    "",
                    last.step,
                    norms[larger],
                    self.min_ratio * norms[1 - larger],
                ),
                Evidence(
                    "loss_grad_norm",
                    "",
                    last.step,
                    norms[1 - larger],
                    norms[larger] / self.min_ratio,
                ),
            ),
            cause=say(
                "the loss {large} drowns {small}: its gradient is {times:.3g} times as large in "
                "the median of {num} comparisons",
                large=pair.name(second=larger == 1),
                small=pair.name(second=larger == 0),
                times=times,
                num=len(ratios(pair.late)),
            ),
            advice=say(
                "multiply {small} by about {weight:.1g}, or bring both losses to the same unit, "
                "so that their gradients are about as large",
                small=pair.name(second=larger == 0),
                weight=10 ** round(math.log10(times)),
            ),
            where=str(pair.second if larger == 0 else pair.first),
            excerpt="",
        )
