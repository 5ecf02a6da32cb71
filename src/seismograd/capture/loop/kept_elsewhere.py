"""Follow gradients that a framework keeps in buffers of its own, and clears itself."""

from __future__ import annotations

from collections.abc import Callable

import torch

from seismograd.capture.loop.clearing_tracker import ClearingTracker


class KeptElsewhere(ClearingTracker):
    """In place of a `ClearingTracker`: nothing can be said of how these are cleared, and nobody but
    their framework changes them. `was_reached` returns whether the last backward added to them.
    """

    def __init__(self, parameters: list[torch.Tensor], was_reached: Callable[[], bool]) -> None:
        super().__init__(parameters)
        self._was_reached = was_reached

    def follows_any(self) -> bool:
        """Return that there is nothing else to follow."""
        return True

    def backward_begins(self, looks_for_loss: bool = False) -> bool:
        """Return that no gradients were cleared before their use."""
        del looks_for_loss
        return False

    def is_kept_from_other_weights(self) -> bool:
        """Return that no evaluation is known to add to an earlier one."""
        return False

    def changed(self) -> list[torch.Tensor]:
        """Return no parameters."""
        return []

    def backward_ends(self) -> bool:
        """Return whether the backward added to any of these gradients."""
        reached = self._was_reached()
        self.is_used = self.is_used and not reached
        return reached

    def added(self) -> None:
        """Note that a backward has added to these gradients."""
        self.is_used = False

    def cleared(self) -> None:
        """Note that they were all cleared."""
        self.is_used = False

    def at_step(self) -> tuple[bool, bool]:
        """Return that a step uses fresh gradients, which nobody has changed."""
        return False, False

    def mark_changed(self) -> None:
        """Note that they were changed."""

    def looked_away(self) -> None:
        """Note that a call was not handled to its end."""
        self.is_used = False

    @property
    def is_empty(self) -> bool:
        """Return that there may be gradients."""
        return False

    def step_ends(self) -> None:
        """Note that the step has used the current gradients."""
        self.is_used = True
