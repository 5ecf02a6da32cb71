"""The short ways of the visits of one session, in Python."""

from __future__ import annotations

from collections.abc import Callable

from seismograd.capture.steady.backward_visit import BackwardVisit
from seismograd.capture.steady.clearing_visit import ClearingVisit
from seismograd.capture.steady.clip_visit import ClipVisit
from seismograd.capture.steady.steady_parts import SteadyParts
from seismograd.capture.steady.step_visit import StepVisit


class ShortWays:
    """`by_event`: each returns whether it has handled the event of this name."""

    def __init__(self, parts: SteadyParts) -> None:
        self.parts, self.step = parts, StepVisit(parts)
        clearing, backward, clip = ClearingVisit(parts), BackwardVisit(parts), ClipVisit(parts)
        self.by_event: dict[str, Callable[..., bool]] = {
            "zero_grad_ends": clearing.zero_grad_ends,
            "backward_begins": backward.backward_begins,
            "backward_ends": backward.backward_ends,
            "clip_begins": clip.clip_begins,
            "clip_ends": clip.clip_ends,
            "step_begins": self.step.step_begins,
            "step_ends": self.step.step_ends,
        }
