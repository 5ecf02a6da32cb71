"""SG602 task-dominance."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import numpy as np

from seismograd.analysis.block_rows import distinct, integers, iteration_at, names_at
from seismograd.analysis.loss_pairs import LossPair, LossPairs, ratios
from seismograd.analysis.medians import median
from seismograd.analysis.mended_reduction import divided
from seismograd.analysis.posterior_words import words_of_collapse
from seismograd.diagnosis.rule import Rule, memory
from seismograd.i18n import Message, say
from seismograd.schema import Evidence, Fact, FactKind, Finding, FloatArray, RowBatch


@final
@dataclass
class TaskDominance(Rule):
    """One loss dominates another: its gradient is many times as large.

    What it finds
        Models trained on several losses of which one provides nearly the whole gradient; a loss
        that adds a mean over a batch and its features, such as a reconstruction error, and a plain
        sum over the same batch, such as a KL divergence.

    Why it hurts
        The optimizer only sees the sum: the small loss is not trained. Often the only reason is its
        unit, such as a squared error in pixels next to a cross-entropy. In a variational
        autoencoder whose divergence is summed and whose reconstruction is averaged, the posterior
        collapses.

    How it decides
        Losses that are backpropagated separately within one step, or that the script names with
        `seismograd.losses`, are compared at some of the steps by the norms of their gradients over
        all parameters that both reach. Losses that are summed before one backward are compared by
        the gradients that arrive from each at the activations that both are computed from: now and
        then, and at every tenth step at the level `deep`. One loss dominates if its norm is at
        least {min_ratio:g} times the other's in {min_share:.0%} of at least {min_samples:g}
        comparisons. A loss that the script multiplies by a small number is small on purpose, and is
        not reported.

        A training that ends in infinities before that has fewer: {min_wrecked:g} comparisons are
        enough then, if the norm is {wrecking_ratio:g} times the other's in all of them.

        The graph of a sum shows as well, in the first backward passes of a line and less and less
        often later, whether one loss is a mean over several numbers of each sample, and another a
        sum over numbers of the same samples. It counts if one number in the sum has at least
        {min_times:g} times the weight of one in the mean, {num_looks:g} times; factors of the
        script are part of it. What this does to the training is inferred.

        The divergence of a variational autoencoder that is summed over the latents, beside a
        reconstruction that is averaged over its numbers, counts only where the posterior has
        collapsed: at the last two of at least {min_posteriors:g} checks over the whole run the
        divergence is below {max_divergence:g}, and a number in it counts at least
        {min_collapsing:g} times what one in the mean does.

    False alarms
        A loss that is small on purpose, if no factor in the script shows it.

    What to try
        - Multiply the small loss by a weight, or divide the large one.
        - Normalise targets to unit variance, and average all losses over the same units.
        - Learn the weights (uncertainty weighting), or balance the norms (GradNorm);
          `seismograd.losses` can do the latter.
        - Reduce all terms alike: sum each over features and average both over the batch, or divide
          the sum by as many numbers as the mean is over.

    References
        - Kendall, Gal, Cipolla (2018), Multi-task learning using uncertainty to weigh losses.
        - Chen, Badrinarayanan, Lee, Rabinovich (2018), GradNorm.
    """

    code = "SG602"
    name = "task-dominance"
    severity = "warning"
    absorbs = ("SG102",)

    min_ratio: float = 30.0
    min_share: float = 0.9
    min_samples: int = 6
    wrecking_ratio: float = 1e3
    min_wrecked: int = 2
    min_times: float = 100.0  # the weight of a number in a sum, over that of one in a mean
    num_looks: int = 3
    min_posteriors: int = 5
    max_divergence: float = 0.01  # of a sample, in nats
    min_collapsing: float = 8.0  # the weight of a number in the divergence

    _pairs: LossPairs = memory(LossPairs)
    _guilty: LossPair | None = memory(lambda: None)
    _mixed: dict[str, list[Fact]] = memory(dict[str, "list[Fact]"])  # by line
    _posteriors: dict[str, list[Fact]] = memory(dict[str, "list[Fact]"])  # by line
    _last_step: int = memory(int)

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        self._last_step = iteration_at(block, -1) if len(block) else self._last_step
        for pair, step in self._pairs.add(block):
            ratio = ratios(pair.late)
            larger = self._larger(pair, ratio)
            if larger is not None and not self.found:
                self._guilty = pair
                self.found.add(self._finding(block, pair, step, ratio, larger))
            elif larger is not None and pair is self._guilty:
                self.found.extend(step)
        return self.found.take()

    def learn(self, fact: Fact) -> Iterable[Finding]:
        self._pairs.learn(fact)
        if fact.kind == FactKind.POSTERIOR:
            self._posteriors.setdefault(fact.where, []).append(fact)
        if fact.kind == FactKind.MIXED_REDUCTIONS and fact.number("times") >= self.min_times:
            seen = self._mixed.setdefault(fact.where, [])
            seen.append(fact)
            if len(seen) == self.num_looks and not self.found:
                self.found.add(self._of_mixed(seen))
            elif len(seen) > self.num_looks and self._guilty is None:
                self.found.extend(fact.iteration)
        return self.found.take()

    def finish(self) -> Iterable[Finding]:
        for seen in self._posteriors.values():
            first, last = seen[0], seen[-1]
            enough = len(seen) >= self.min_posteriors and not self.found
            is_late = 2 * (last.iteration - first.iteration) + 1 > self._last_step - first.iteration
            if (
                enough
                and is_late
                and last.number("times") >= self.min_collapsing
                and all(each.number("divergence") < self.max_divergence for each in seen[-2:])
            ):
                words = words_of_collapse(last)
                divergence = last.number("divergence")
                evidence = Evidence(
                    "divergence", "", last.iteration, divergence, self.max_divergence
                )
                self.found.add(
                    self.finding_of_fact(
                        last,
                        *words,
                        evidence=(evidence,),
                        first_step=first.iteration,
                        last_step=self._last_step,
                    )
                )
        return self.found.take()

    def shortfall(self) -> Message | None:
        return self._pairs.shortfall(self.min_samples, summed=True)

    def _larger(self, pair: LossPair, ratio: FloatArray) -> int | None:
        """Return which of two losses dominates, 0 or 1."""
        if len(ratio) < self.min_samples:
            is_over = not math.isfinite(pair.late[-1].first_norm + pair.late[-1].second_norm)
            if not is_over or len(ratio) < self.min_wrecked:
                return None
            if ratio.min() < self.wrecking_ratio and ratio.max() > 1 / self.wrecking_ratio:
                return None
        above, below = (ratio >= self.min_ratio).mean(), (ratio <= 1 / self.min_ratio).mean()
        larger = int(above < below)
        is_small_on_purpose = pair.rescaled[1 - larger]
        return None if max(above, below) < self.min_share or is_small_on_purpose else larger

    def _finding(
        self, block: RowBatch, pair: LossPair, step: int, ratio: FloatArray, larger: int
    ) -> Finding:
        last = [each for each in pair.late if len(ratios([each]))][-1]
        norms = last.first_norm, last.second_norm
        high, low = norms[larger], norms[1 - larger]
        times = median(ratio) if larger == 0 else 1 / median(ratio)
        columns = integers(block.pairs, "parameter")[block.pairs["iteration"] == step]
        shared = [each for each in distinct(columns) if 0 <= each < len(block.parameters)]
        large, small = (pair.name(second=larger == second) for second in (1, 0))
        weight, is_over = 10 ** round(math.log10(times)), len(ratio) < self.min_samples
        return self.finding(
            severity="error" if is_over else self.severity,
            first_step=pair.late[0].step,
            last_step=step,
            parameters=names_at(block, np.array(shared, np.int64)),
            evidence=(
                Evidence("loss_grad_norm", "", last.step, high, self.min_ratio * low),
                Evidence("loss_grad_norm", "", last.step, low, high / self.min_ratio),
            ),
            cause=say(
                "the loss {large} dominates {small}: its gradient is {times:.3g} times as large "
                "(median; comparisons: {num})",
                large=large,
                small=small,
                times=times,
                num=len(ratio),
            ),
            advice=say(
                "divide {large} by about {weight:.1g}, or normalise its targets: its gradient is "
                "more than the updates can stand",
                large=large,
                weight=weight,
            )
            if is_over
            else say(
                "multiply {small} by about {weight:.1g}, or bring both losses to the same unit, so "
                "that their gradients are about the same size",
                small=small,
                weight=weight,
            ),
            where=str(pair.second if larger == 0 else pair.first),
        )

    def _of_mixed(self, seen: list[Fact]) -> Finding:
        fact = seen[-1]
        numel = int(fact.number("mean"))
        return self.finding(
            first_step=seen[0].iteration,
            last_step=fact.iteration,
            evidence=(
                Evidence("weight_ratio", "", fact.iteration, fact.number("times"), self.min_times),
            ),
            cause=say(
                "the loss at {line} adds a mean over {mean} numbers and a sum over {summed} of the "
                "same batch of {samples}: one number in the sum counts as much as {times} in "
                "the mean, so that the sum probably dominates",
                line=fact.where or "?",
                mean=numel,
                summed=int(fact.number("summed")),
                samples=int(fact.number("samples")),
                times=f"{fact.number('times'):,.0f}",
            ),
            advice=say(
                "reduce both alike: divide the sum by as many numbers as the mean is over, or sum "
                "both over the features and average both over the batch"
            ),
            where=fact.text("place") or fact.where,
            excerpt=divided(fact.text("text"), numel),
        )
