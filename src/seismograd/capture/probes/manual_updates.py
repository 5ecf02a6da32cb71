"""Detect training without a torch optimizer, where a change of the weights is the only sign of a
step.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch

from seismograd.capture.names.foreign_optimizers import Foreign
from seismograd.tensors.dtensor import held_part
from seismograd.tensors.freed_memory import is_readable
from seismograd.tensors.isolation import without_user_modes

MAX_LOOKED_AT = 64


class ManualUpdates:
    """The parameters that backwards reach and no optimizer holds; detects whether the script has
    changed them since the last backward.

    A leaf that is no `nn.Parameter` may be an input whose gradient is wanted: it counts once its
    value has changed.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[weakref.ref[torch.Tensor], float]] = {}
        self._trained: dict[int, weakref.ref[torch.Tensor]] = {}
        self.optimizer: Foreign | None = None  # of a framework's own class, which makes the steps
        # leaves of the last backward: how often in a row they were the same and unchanged
        self._still: dict[int, int] = {}

    def held(self) -> list[torch.Tensor]:
        """Return the parameters, in the order in which the forward pass uses them."""
        return [
            tensor for reference in self._trained.values() if (tensor := reference()) is not None
        ]

    def held_any(self) -> bool:
        """Return whether there has been any."""
        return bool(self._trained)

    def backward_ended(self, leaves: Sequence[torch.Tensor]) -> None:
        """Take the leaves that have a gradient now, and remember their values."""
        self._still = {
            id(leaf): 0
            if self._is_new(leaf) or self._moved(leaf)
            else self._still.get(id(leaf), 0) + 1
            for leaf in leaves
        }
        for leaf in leaves:
            if leaf.grad is not None and (
                isinstance(leaf, torch.nn.Parameter) or self._moved(leaf)
            ):
                self._trained[id(leaf)] = weakref.ref(leaf)
        self._seen = {
            id(leaf): (weakref.ref(leaf), fingerprint(leaf)) for leaf in leaves[:MAX_LOOKED_AT]
        }

    def stepped(self, *, at_the_end: bool = False) -> bool:
        """Return whether the script has changed any of them since the last backward; `at_the_end`
        counts it as changed if they are gone.
        """
        leaves = [reference() for key, (reference, _) in self._seen.items() if key in self._trained]
        return any(at_the_end if leaf is None else self._moved(leaf) for leaf in leaves)

    def num_unmoved(self) -> int:
        """Return how many backwards have reached the very same leaves with the same values; 0 when
        any is new, as inputs are.
        """
        return min(self._still.values(), default=0)

    def num_leaves(self) -> int:
        """Return how many leaves the last backward reached."""
        return len(self._still)

    def _is_new(self, leaf: torch.Tensor) -> bool:
        before = self._seen.get(id(leaf))
        return before is None or before[0]() is not leaf

    def _moved(self, leaf: torch.Tensor) -> bool:
        before = self._seen.get(id(leaf))
        return before is not None and before[0]() is leaf and before[1] != fingerprint(leaf)


def fingerprint(leaf: torch.Tensor, max_scalars: int = 0) -> float:
    """Return a number that an update changes, also one through `.data`, which leaves `_version`
    alone; constant without memory. Of a larger tensor than `max_scalars`, if that is given, only
    its first rows are read.
    """
    with without_user_modes():
        plain = held_part(leaf)
        if not is_readable(plain):
            return 0.0
        if 0 < max_scalars < plain.numel() and plain.ndim:
            plain = plain[: max(1, max_scalars * len(plain) // plain.numel())]
        real = torch.view_as_real(plain) if plain.is_complex() else plain
        return float(real.double().square().sum())
