"""The clips of several processes in one iteration, and the words about those that disagree."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from seismograd.i18n import Message, say
from seismograd.schema import AnyArray, Evidence, FloatArray

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

    def spread(self) -> float:
        """Return the ratio of the largest factor to the smallest."""
        with np.errstate(divide="ignore"):
            return float(np.max(self.factors) / np.min(self.factors))


def cause_of(clip: ComparedClips, tolerance: float, is_own: bool) -> Message:
    """Return the cause; `is_own`: in all of them the norm was that of what one rank holds."""
    low, high = int(np.argmin(clip.factors)), int(np.argmax(clip.factors))
    differ = clip.spread() > 1 + tolerance
    values: dict[str, str | int | float] = {
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
        cause = say(
            "at step {step}, rank {low} clips by a norm of {low_norm} and rank {high} by one "
            "of {high_norm}, while the norm of all gradients is {whole}: they are multiplied "
            "by different factors ({low_factor} and {high_factor})",
            **values,
        )
    elif differ:
        cause = say(
            "at step {step}, rank {low} multiplies all gradients by {low_factor} and rank "
            "{high} by {high_factor}: they clip by different norms",
            **values,
        )
    elif is_own:
        cause = say(
            "at step {step}, the clip uses a norm of {norm}, which is that of what one rank "
            "holds; the norm of all gradients is {whole}, with a limit of {limit:g}",
            **values,
        )
    else:
        cause = say(
            "at step {step}, the clip uses a norm of {norm} on all ranks, but the norm of all "
            "gradients is {whole}, with a limit of {limit:g}: norms of experts, shards or "
            "stages are averaged, left out, or counted several times",
            **values,
        )
    return cause


def evidence_of(clip: ComparedClips) -> tuple[Evidence, ...]:
    """Return the numbers that show it."""
    low, high = int(np.argmin(clip.factors)), int(np.argmax(clip.factors))
    right = (
        float(clip.factors[low])
        if math.isnan(clip.whole)
        else min(1.0, clip.limit / (clip.whole + EPSILON))
    )
    return (
        Evidence("clip_norm", "", clip.iteration, float(clip.used[low]), clip.whole),
        Evidence("clip_coefficient", "", clip.iteration, float(clip.factors[high]), right),
    )
