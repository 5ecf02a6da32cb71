"""Measure what a step changed: copies of slices of the weights from before it, against the weights
after it.

Shapes: k slices, N scalars in all of a group of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seismograd.measure.transfer import wide_dtype
from seismograd.tensors.isolation import without_user_modes


@dataclass(frozen=True, slots=True)
class SliceGroup:
    """Copies of slices of one device and dtype, back to back, and the positions that the slices
    came with.

    `has_gradient` says which of the scalars had a gradient other than zero  # (N,); `None` when
    that is determined after the step.
    """

    positions: list[int]
    sizes: list[int]
    numbers: Tensor  # (N,)
    has_gradient: Tensor | None


@dataclass(frozen=True, slots=True)
class SliceUpdates:
    """The updates of slices of one device: the norm of the update over the norm of the weights
    before it, and the share of the scalars with a gradient whose value is unchanged  # (2, k), on
    that device. 0/0 is NaN, as where no scalar has a gradient.
    """

    positions: list[int]
    numbers: Tensor


def keep(weights: Sequence[Tensor], gradients: Sequence[Tensor] | None) -> list[SliceGroup]:
    """Copy slices of the weights, and note where their gradients, slices of the same shapes, are
    not zero.

    `gradients` is `None` before a step that computes them itself. No synchronization with a device.
    """
    alike: defaultdict[tuple[torch.device, torch.dtype], list[int]] = defaultdict(list)
    for position, weight in enumerate(weights):
        alike[weight.device, weight.dtype].append(position)
    with without_user_modes():
        return [
            SliceGroup(
                positions,
                [weights[position].numel() for position in positions],
                torch.cat([weights[position].reshape(-1) for position in positions]),
                None
                if gradients is None
                else _has_gradient([gradients[position] for position in positions]),
            )
            for positions in alike.values()
        ]


def compare(
    kept: Sequence[SliceGroup], weights: Sequence[Tensor], gradients: Sequence[Tensor] | None
) -> list[SliceUpdates]:
    """Compare the slices with the weights now; pass `gradients` where `keep` was not given them. No
    synchronization with a device.
    """
    with without_user_modes():
        return [_compare(group, [weights[p] for p in group.positions], gradients) for group in kept]


def _compare(
    group: SliceGroup, weights: list[Tensor], gradients: Sequence[Tensor] | None
) -> SliceUpdates:
    dtype = wide_dtype(group.numbers.device)
    has_gradient = group.has_gradient
    if has_gradient is None:
        assert gradients is not None
        has_gradient = _has_gradient([gradients[position] for position in group.positions])
    now = torch.cat([weight.reshape(-1) for weight in weights])
    before = group.numbers.to(dtype)
    unmoved = has_gradient & (now == group.numbers)
    update, norm = _norms(now.to(dtype) - before, group.sizes), _norms(before, group.sizes)
    counts = [
        torch.stack([part.sum() for part in torch.split(marks, group.sizes)]).to(dtype)
        for marks in (unmoved, has_gradient)
    ]
    return SliceUpdates(group.positions, torch.stack([update / norm, counts[0] / counts[1]]))


def _norms(numbers: Tensor, sizes: list[int]) -> Tensor:
    # What torch's own clip calls: one kernel for many tensors.
    norms_of = torch._foreach_norm  # pyright: ignore[reportPrivateImportUsage, reportPrivateUsage]
    return torch.stack(norms_of(torch.split(numbers, sizes)))


def _has_gradient(gradients: list[Tensor]) -> Tensor:
    """Return where a gradient is not zero; NaN is not  # (N,) bool."""
    return torch.cat([gradient.reshape(-1) for gradient in gradients]) != 0
