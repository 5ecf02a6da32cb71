"""SG602 task-dominance."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, final

from seismograd.analysis.loss_pairs import LossPair, LossPairs, ratios
from seismograd.analysis.medians import median
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import Evidence, Finding, RowBatch


@final
@dataclass
class TaskDominance(Rule):
    """One loss dominates another: its gradient is many times as large.

    What it finds
        Models trained on several losses of which one provides nearly the whole gradient and the
        others almost nothing.

    Why it hurts
        The optimizer only sees the sum. A loss that contributes a thirtieth of it decides nothing:
        the small loss is not trained, whatever the intention. Often the only reason is its unit,
        such as a squared error in pixels next to a cross-entropy.

    How it decides
        Losses that are backpropagated separately within one step, or that the script names with
        `seismograd.losses`, are compared at some of the steps by the norms of their gradients over
        all parameters that both reach. One loss dominates if its norm is at least {min_ratio:g}
        times the other's in {min_share:.0%} of at least {min_samples:g} comparisons. A loss that
        the script multiplies by a small number is small on purpose, and is not reported.

        A training that ends in infinities before that has fewer: {min_wrecked:g} comparisons are
        enough then, if the norm is {wrecking_ratio:g} times the other's in all of them.

    False alarms
        A loss that is small on purpose, if no factor in the script shows it.

    What to try
        - Multiply the small loss by a weight, or divide the large one, so that their gradients are
          about the same size.
        - Normalise targets to unit variance, and average all losses over the same units.
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
    absorbs: ClassVar[tuple[str, ...]] = ("SG102",)

    min_ratio: float = 30.0
    min_share: float = 0.9
    min_samples: int = 6
    wrecking_ratio: float = 1e3
    min_wrecked: int = 2

    _pairs: LossPairs = field(default_factory=LossPairs, init=False, repr=False)
    _guilty: LossPair | None = field(default=None, init=False, repr=False)

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        for pair, step in self._pairs.add(block):
            larger = self._larger(pair)
            if larger is None:
                continue
            if not self.found:
                self._guilty = pair
                self.found.add(self._describe(block, pair, step, larger))
            elif pair is self._guilty:
                self.found.extend(step)
        return self.found.take()

    def shortfall(self) -> Message | None:
        return self._pairs.shortfall(self.min_samples)

    def _larger(self, pair: LossPair) -> int | None:
        """Return which of two losses dominates, 0 or 1."""
        ratio, last = ratios(pair.late), pair.late[-1]
        is_over = not math.isfinite(last.first_norm + last.second_norm)
        if len(ratio) < self.min_samples and not (is_over and len(ratio) >= self.min_wrecked):
            return None
        if len(ratio) < self.min_samples and not (
            ratio.min() >= self.wrecking_ratio or ratio.max() <= 1 / self.wrecking_ratio
        ):
            return None
        shares = (
            float((ratio >= self.min_ratio).mean()),
            float((ratio <= 1 / self.min_ratio).mean()),
        )
        larger = 0 if shares[0] >= shares[1] else 1
        return (
            larger if shares[larger] >= self.min_share and not pair.rescaled[1 - larger] else None
        )

    def _describe(self, block: RowBatch, pair: LossPair, step: int, larger: int) -> Finding:
        ratio = median(ratios(pair.late))
        last = [each for each in pair.late if len(ratios([each]))][-1]
        norms = (last.first_norm, last.second_norm)
        times = ratio if larger == 0 else 1 / ratio
        shared = {
            int(each)
            for each in block.pairs["parameter"][block.pairs["iteration"] == step]
            if each >= 0
        }
        weight = 10 ** round(math.log10(times))
        is_over = len(ratios(pair.late)) < self.min_samples
        return self.finding(
            severity="error" if is_over else self.severity,
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
                "the loss {large} dominates {small}: its gradient is {times:.3g} times as large "
                "(median; comparisons: {num})",
                large=pair.name(second=larger == 1),
                small=pair.name(second=larger == 0),
                times=times,
                num=len(ratios(pair.late)),
            ),
            advice=say(
                "divide {large} by about {weight:.1g}, or normalise its targets: its gradient is "
                "more than the updates can stand",
                large=pair.name(second=larger == 1),
                weight=weight,
            )
            if is_over
            else say(
                "multiply {small} by about {weight:.1g}, or bring both losses to the same unit, so "
                "that their gradients are about the same size",
                small=pair.name(second=larger == 0),
                weight=weight,
            ),
            where=str(pair.second if larger == 0 else pair.first),
        )
