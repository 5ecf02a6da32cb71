"""Which gradients the script has reduced over processes by calling `torch.distributed` itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from seismograd.capture.loop.optimizer_window import OptimizerWindow

POINT_TO_POINT = frozenset({"send", "batch_isend_irecv"})
MAX_HEARD = 1 << 14  # collectives since the last backward; later ones are not remembered
MAX_SCALARS = 8  # a tensor as small as this is a norm, a loss or a flag, unless it is a gradient


@dataclass(frozen=True, slots=True)
class HeardCollective:
    """A collective: where its tensors are in memory, and how many scalars it was about.

    `numel` is 0 within a backward, where layers exchange activations as well.
    """

    addresses: tuple[int, ...]
    numel: int


class GradientReductions:
    """Remembers the collectives since the last backward began.

    A collective costs an entry in a list; which gradients it was about is looked up when they are
    about to be read. It was about a gradient if it used its memory. If it used a flat buffer that
    was copied back, the buffer has at least as many scalars as the gradients that have changed.
    """

    def __init__(self) -> None:
        self.since_backward: list[HeardCollective] = []
        self.num_before = 0  # collectives forgotten
        self.is_stage = False  # of a pipeline, which sends activations and their gradients

    @property
    def num_heard(self) -> int:
        """Return how many collectives were heard so far."""
        return self.num_before + len(self.since_backward)

    def backward_begins(self) -> None:
        """Forget what came before this backward: gradients are reduced during or after the last."""
        self.num_before += len(self.since_backward)
        self.since_backward = []

    def collective_ends(
        self, name: str, tensors: Sequence[torch.Tensor], numel: int, in_backward: bool
    ) -> None:
        """Remember a collective that has used these tensors."""
        self.is_stage |= name in POINT_TO_POINT
        if len(self.since_backward) < MAX_HEARD:
            self.since_backward.append(
                HeardCollective(tuple(map(_address, tensors)), 0 if in_backward else numel)
            )

    def since_read(self, window: OptimizerWindow) -> bool:
        """Return whether gradients of this window were reduced since its last backward or reading.

        What has changed them in between, such as dividing by the number of processes, then belongs
        to the reduction.
        """
        # A schedule divides by the number of micro-batches when the last of them has come back.
        if self.is_stage and window.num_backwards > 1 and window.clearing.changed():
            return True
        new = self.since_backward[max(0, window.num_collectives - self.num_before) :]
        if not new:
            return False
        own = _addresses(window)
        if any(not own.isdisjoint(each.addresses) for each in new):
            return True
        in_buffers = sum(each.numel for each in new if each.numel > MAX_SCALARS)
        changed = window.clearing.changed() if in_buffers else []
        return 0 < sum(p.numel() for p in changed) <= in_buffers

    def are_gradients(self, window: OptimizerWindow, tensors: Sequence[torch.Tensor]) -> bool:
        """Return whether any of these tensors is in the memory of a gradient of this window."""
        return not _addresses(window).isdisjoint(map(_address, tensors))


def _addresses(window: OptimizerWindow) -> set[int]:
    return {_address(g) for p in window.held() if (g := p.grad) is not None} - {0}


def _address(tensor: torch.Tensor) -> int:
    """Return where the memory of an ordinary tensor begins, 0 for one that may have none."""
    # Storages can be asked of these types only: of a subclass it may run the program's own code.
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        return 0
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else 0
