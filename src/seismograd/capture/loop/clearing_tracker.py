"""Follow how the gradients of an optimizer are cleared between its steps."""

from __future__ import annotations

import weakref

import torch

from seismograd.measure.native import tensor_reads
from seismograd.measure.native.tensor_reads import Signature
from seismograd.tensors.dtensor import held_part
from seismograd.tensors.freed_memory import is_readable
from seismograd.tensors.isolation import without_user_modes

MAX_LOOKED_AT = 64  # parameters of an optimizer whose gradients are inspected in every backward


def is_zero(parameter: torch.Tensor) -> bool:
    """Return whether the gradient is all zeros."""
    grad = parameter.grad
    if grad is None:
        return True
    with without_user_modes():
        held = held_part(grad)
        return is_readable(held) and not bool(torch.any(held))


class ClearingTracker:
    """Follows up to `MAX_LOOKED_AT` gradients through the loop: was a used gradient cleared before
    the next backward added to it?

    It inspects the gradients themselves, so it does not matter how they are cleared. `carried` says
    for each followed parameter whether its gradient still holds what an earlier step used.
    """

    def __init__(self, parameters: list[torch.Tensor]) -> None:
        stride = max(1, -(-len(parameters) // MAX_LOOKED_AT))
        self.parameters = [weakref.ref(p) for p in parameters[::stride]]
        self.none: list[Signature] = [None] * len(self.parameters)
        self.not_carried = [False] * len(self.parameters)  # shared, never written to
        self.carried = self.not_carried
        self.is_used = False  # a step has used the gradients, and no backward has added since
        self.last = self.before = self.none
        self.evaluated_at: list[int] = []  # how often each weight was changed before an evaluation

    def marks(self) -> list[Signature]:
        """Return which tensors the gradients are now, and how often each was changed in place."""
        return tensor_reads.marks(self.parameters)

    def follows_any(self) -> bool:
        """Return whether any of the followed parameters is being trained: they may have been chosen
        while others were frozen.
        """
        for ref in self.parameters:
            parameter = ref()
            if parameter is not None and parameter.requires_grad:
                return True
        return False

    def backward_begins(self, looks_for_loss: bool = False) -> bool:
        """Note that used gradients still present will be added to, and return whether unused
        gradients were cleared since the last intercepted call; only checks that if
        `looks_for_loss`.
        """
        now = self.marks()
        lost = (
            looks_for_loss
            and not self.is_used
            and now != self.last
            and self.last != self.none
            and self._is_cleared(now)
        )
        if (self.is_used and now != self.none) or True in self.carried:
            self.carried = [self._is_carried(i, now[i]) for i in range(len(now))]
        self.before = now
        return lost

    def _is_cleared(self, now: list[Signature]) -> bool:
        return now == self.none or all(
            is_zero(p) for ref in self.parameters if (p := ref()) is not None
        )

    def _is_carried(self, i: int, mark: Signature) -> bool:
        """Return whether a gradient, now with this mark, holds what an earlier step used."""
        if not (self.is_used or self.carried[i]):
            return False
        last, parameter = self.last[i], self.parameters[i]()
        if mark is None or last is None or parameter is None or mark[0] != last[0]:
            return False
        # changed in place: by zeroing it, or by something that keeps it
        return mark == last or not is_zero(parameter)

    def changed(self) -> list[torch.Tensor]:
        """Return the followed parameters whose gradients a call that we did not intercept has
        changed.
        """
        return [
            p
            for ref, mark, last in zip(self.parameters, self.marks(), self.last, strict=True)
            if mark is not None and mark != last and (p := ref()) is not None
        ]

    def backward_ends(self) -> bool:
        """Return whether the backward added to any of these gradients."""
        now = self.marks()
        touched = now != self.before
        if touched:
            self.is_used = False
            self.last = now
        self.before = now
        return touched

    def evaluated(self) -> None:
        """Note that the running step has evaluated the loss at the current weights."""
        self.evaluated_at = self._versions()

    def is_kept_from_other_weights(self) -> bool:
        """Return whether the running step has changed the weights since it evaluated the loss, and
        the gradients that it computed then are still there: the next evaluation adds to them.
        """
        if self._versions() == self.evaluated_at:
            return False
        self.is_used = True  # the step has moved the weights by them
        self.carried = [self._is_carried(i, mark) for i, mark in enumerate(self.marks())]
        self.is_used = False
        return True in self.carried

    def _versions(self) -> list[int]:
        return [-1 if (p := ref()) is None else p._version for ref in self.parameters]

    def added(self) -> None:
        """Note that a backward has added to these gradients."""
        self.is_used = False
        self.last = self.before = self.marks()

    def cleared(self) -> None:
        """Note that the optimizer's own `zero_grad` cleared them all."""
        self.carried = self.not_carried
        self.is_used = False
        self.last = self.marks()

    def at_step(self) -> tuple[bool, bool]:
        """Return whether a step now would use no gradient, or the very one that the previous step
        used; and whether a call that we did not intercept has changed a gradient.
        """
        now = self.marks()
        same = now == self.last
        return (self.is_used and same) or now == self.none, not same

    def mark_changed(self) -> None:
        """Note that an intercepted call (a clip, an unscale) has changed the gradients."""
        self.last = tensor_reads.marks(self.parameters)

    def looked_away(self) -> None:
        """Note that a call was not handled to its end: the current gradients are neither known to
        be used nor to be changed.
        """
        self.carried = self.not_carried
        self.is_used = False
        self.last = self.before = self.marks()

    @property
    def is_empty(self) -> bool:
        """Return whether there was no gradient at the last inspection."""
        return self.last == self.none

    @property
    def carried_over(self) -> list[bool]:
        """Return for each followed parameter whether its gradient holds both what an earlier step
        used and something newer.
        """
        return self.not_carried if self.is_used else self.carried

    def step_ends(self) -> None:
        """Note that the step has used the current gradients."""
        self.carried = self.not_carried
        self.is_used = True
        self.last = tensor_reads.marks(self.parameters)
