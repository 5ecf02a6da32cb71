"""The part of a flattened tensor that this process holds, where its framework keeps that in a
buffer of its own.
"""

from __future__ import annotations

import math

import torch


class TensorPart(torch.Tensor):
    """Consecutive scalars of a tensor of the shape `whole`, beginning at `start`.

    All of them have that shape, any other number of them has one dimension.
    """

    whole: tuple[int, ...]
    start: int

    @property
    def is_whole(self) -> bool:
        """Return whether the process holds all scalars."""
        return self.numel() == math.prod(self.whole)


def make_part(held: torch.Tensor, whole: tuple[int, ...], start: int) -> TensorPart:
    """Return what is held, in the same memory, as a part that begins at `start`."""
    flat = held.detach().reshape(-1)
    shaped = flat.view(whole) if flat.numel() == math.prod(whole) else flat
    part = shaped.as_subclass(TensorPart)
    part.whole, part.start = whole, start
    return part


def whole_shape(tensor: torch.Tensor) -> tuple[int, ...]:
    """Return the shape of a tensor as its script made it, wherever its scalars are: of a part, and
    of a parameter that DeepSpeed's ZeRO-3 has left empty.
    """
    if type(tensor) is TensorPart:
        return tensor.whole
    shape = getattr(tensor, "__dict__", {}).get("ds_shape")
    return tuple(tensor.shape if shape is None else shape)
