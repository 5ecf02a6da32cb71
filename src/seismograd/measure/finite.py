"""Check only whether gradients are finite, where measuring them costs much more than that."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from seismograd.tensors.cuda_graph import is_capturing
from seismograd.tensors.isolation import without_user_modes
from seismograd.tensors.readable import readable


def all_finite(gradients: Sequence[Tensor]) -> bool:
    """Return whether every scalar is finite; false where that cannot be decided, as when a norm
    overflows. One transfer per device.

    A NaN or an infinity comes through every norm, so false alarms are possible, misses are not.
    """
    if is_capturing():
        return False
    with without_user_modes():
        contents = [readable(gradient) for gradient in gradients]
        listed = [c.values() if c.is_sparse else c for c in contents if c is not None]
        if len(listed) < len(gradients):
            return False
        filled = [part for part in listed if part.numel() > 0]
        # What torch's own clip calls: one kernel for many tensors.
        norms_of = torch._foreach_norm  # pyright: ignore[reportPrivateImportUsage, reportPrivateUsage]
        norms: Sequence[Tensor] = norms_of(filled) if filled else ()
        totals: dict[torch.device, list[Tensor]] = {}
        for norm in norms:
            totals.setdefault(norm.device, []).append(norm.float())
        return all(math.isfinite(float(torch.stack(parts).sum())) for parts in totals.values())
