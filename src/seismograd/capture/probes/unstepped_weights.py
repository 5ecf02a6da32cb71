"""Look whether the weights of an optimizer change although it never makes a step, as where hooks
update them within the backward.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Container

import torch
from torch.cuda import is_initialized

from seismograd.capture.probes.manual_updates import fingerprint
from seismograd.tensors.cuda_graph import is_capturing

SEEN_AT = 2  # backwards without a step: nearly all programs have made one by then
NUM_WEIGHTS = 8
MAX_SCALARS = 1 << 20  # of each weight: more would take memory
ALWAYS_UP_TO = 8  # backwards; then at powers of two


class UnsteppedWeights:
    """A few weights of one optimizer as an early backward left them."""

    def __init__(self) -> None:
        self._seen: list[tuple[weakref.ref[torch.Tensor], float]] = []
        self.have_moved = False

    def backward_ended(
        self,
        weights: list[weakref.ref[torch.Tensor]],
        num_heard: int,
        others: Callable[[], Container[int]],
    ) -> None:
        """Remember some of these weights at the second backward without a step, and compare them at
        some of the later ones: at the end of the program they may be gone.
        """
        if self.have_moved or (is_initialized() and is_capturing()):
            return
        if num_heard == SEEN_AT:
            chosen = weights[:: max(1, -(-len(weights) // NUM_WEIGHTS))]
            self._seen = [
                (reference, _fingerprint(weight))
                for reference in chosen
                if (weight := reference()) is not None
            ]
        elif num_heard <= ALWAYS_UP_TO or num_heard & (num_heard - 1) == 0:
            self.look(others())

    def look(self, others: Container[int]) -> bool:
        """Return whether any has changed by now; those that `others` update do not count."""
        self.have_moved = self.have_moved or any(
            weight is not None and id(weight) not in others and _has_changed(weight, before)
            for weight, before in ((reference(), before) for reference, before in self._seen)
        )
        return self.have_moved


def _has_changed(weight: torch.Tensor, before: float) -> bool:
    now = _fingerprint(weight)
    return now != before and not (math.isnan(now) and math.isnan(before))


def _fingerprint(weight: torch.Tensor) -> float:
    return fingerprint(weight, MAX_SCALARS)
