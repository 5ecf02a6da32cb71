"""The clips of several processes in one iteration, and the words about those that disagree."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from seismograd.analysis.block_rows import integers, iteration_at, numbers
from seismograd.diagnosis.rule import Explanation
from seismograd.i18n import Message, Values, say
from seismograd.schema import AnyArray, Evidence, FloatArray, RowBatch

EPSILON = 1e-6  # of torch.nn.utils.clip_grad_norm_


@dataclass(frozen=True, slots=True)
class ComparedClips:
    """The clips of several processes in one iteration  # (R,) each; one of all where each had a
    part of the norm.
    """

    iteration: int
    limit: float
    whole: float
    used: FloatArray
    factors: FloatArray
    ranks: AnyArray

    @classmethod
    def of(
        cls, block: RowBatch, row: int, processes: AnyArray, whole: float
    ) -> ComparedClips | None:
        """Return what the clip of each process has used; with NaN for the whole norm they can only
        be compared with each other. `None`: too few are known.
        """
        used, own = processes, block.steps[row : row + 1]
        if not math.isnan(whole) and not np.isfinite(numbers(processes, "clip_norm")).any():
            used = own  # each of them has a part, which were put together
        factors = numbers(used, "clip_coefficient")
        there = np.isfinite(factors)
        num = int(np.count_nonzero(there))
        if num < (2 if math.isnan(whole) else 1):
            return None
        return cls(
            iteration_at(block, row),
            float(own["clip_limit"][0]),
            whole,
            numbers(used, "clip_norm")[there],
            factors[there],
            integers(processes, "rank")[there] if num > 1 else np.zeros(1, np.int64),
        )

    @property
    def right(self) -> float:
        """Return the factor that follows from the whole norm; NaN: not known."""
        return math.nan if math.isnan(self.whole) else min(1.0, self.limit / (self.whole + EPSILON))

    def range(self) -> tuple[float, float]:
        """Return the smallest and the largest factor, the right one among them."""
        every = self.factors if math.isnan(self.right) else np.append(self.factors, self.right)
        return float(every.min()), float(every.max())

    def spread(self) -> float:
        """Return the ratio of the largest factor to the smallest."""
        with np.errstate(divide="ignore"):
            return float(np.max(self.factors) / np.min(self.factors))


def evidence_of(clip: ComparedClips) -> tuple[Evidence, ...]:
    """Return the numbers that show it."""
    low, high = int(np.argmin(clip.factors)), int(np.argmax(clip.factors))
    right = float(clip.factors[low]) if math.isnan(clip.right) else clip.right
    return (
        Evidence("clip_norm", "", clip.iteration, float(clip.used[low]), clip.whole),
        Evidence("clip_coefficient", "", clip.iteration, float(clip.factors[high]), right),
    )


@dataclass(slots=True)
class Disagreement:
    """The iterations in which the clips of processes differ from each other or from the whole
    norm by more than `tolerance`, of those in which any of them clips.
    """

    tolerance: float
    num_binding: int = 0
    num_wrong: int = 0
    first: int = -1
    worst: ComparedClips | None = None
    is_own: bool = True  # in all of them the norm was that of what rank 0 holds

    def add(self, clip: ComparedClips, own: float) -> bool:
        """Add the clips of an iteration, in which rank 0 holds gradients of the norm `own`; return
        whether they disagree.
        """
        least, most = clip.range()
        if least >= 1:
            return False
        self.num_binding += 1
        if most <= (1 + self.tolerance) * least:
            return False
        self.num_wrong += 1
        self.first = clip.iteration if self.first < 0 else self.first
        if self.worst is None or clip.spread() > self.worst.spread():
            self.worst = clip
        self.is_own &= bool(abs(clip.used[0] - own) <= 1e-3 * own)
        return True


def explanation(clip: ComparedClips, tolerance: float, is_own: bool) -> Explanation:
    """Return cause, advice and excerpt; `is_own`: in all of them the norm was that of what one rank
    holds.
    """
    return (
        _cause(clip, tolerance, is_own),
        say(
            "add the squares of the norms over the ranks that hold different parameters, count "
            "replicated ones once, and clip with that norm on every rank"
        ),
        "square = own_norm**2\ndist.all_reduce(square)\n"
        "torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, square.sqrt())",
    )


def _cause(clip: ComparedClips, tolerance: float, is_own: bool) -> Message:
    low, high = int(np.argmin(clip.factors)), int(np.argmax(clip.factors))
    differ = clip.spread() > 1 + tolerance
    values: Values = {
        "step": clip.iteration,
        "whole": f"{clip.whole:.3g}",
        "norm": f"{clip.used[0]:.3g}",
        "limit": clip.limit,
        "low": int(clip.ranks[low]),
        "high": int(clip.ranks[high]),
        "low_norm": f"{clip.used[low]:.3g}",
        "high_norm": f"{clip.used[high]:.3g}",
        "low_factor": f"{clip.factors[low]:.3g}",
        "high_factor": f"{clip.factors[high]:.3g}",
    }
    if differ and np.isfinite(clip.used).all():
        return say(
            "at step {step}, rank {low} clips by a norm of {low_norm} and rank {high} by one "
            "of {high_norm}, while the norm of all gradients is {whole}: they are multiplied "
            "by different factors ({low_factor} and {high_factor})",
            **values,
        )
    if differ:
        return say(
            "at step {step}, rank {low} multiplies all gradients by {low_factor} and rank "
            "{high} by {high_factor}: they clip by different norms",
            **values,
        )
    if is_own:
        return say(
            "at step {step}, the clip uses a norm of {norm}, which is that of what one rank "
            "holds; the norm of all gradients is {whole}, with a limit of {limit:g}",
            **values,
        )
    return say(
        "at step {step}, the clip uses a norm of {norm} on all ranks, but the norm of all "
        "gradients is {whole}, with a limit of {limit:g}: norms of experts, shards or "
        "stages are averaged, left out, or counted several times",
        **values,
    )
