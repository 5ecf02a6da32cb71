"""Compute the norm of every gradient in double precision, where every dtype's range fits: 3e19 and
1e-30 in float32, 100 a million times in float16.

Shapes: n gradients.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from seismograd.measure.backend_selection import host_backend
from seismograd.measure.statistics.largest import GRAD_MAX
from seismograd.measure.statistics.norm import GRAD_NORM
from seismograd.measure.tensor_batches import batches
from seismograd.measure.transfer import wide_dtype
from seismograd.schema import FloatArray
from seismograd.tensors.dtensor import distributed_tensor, held_part
from seismograd.tensors.isolation import in_own_context, without_user_modes
from seismograd.tensors.readable import readable


def norms_of(
    gradients: Sequence[Tensor], norm_type: float = 2.0, known: FloatArray | None = None
) -> FloatArray:
    """Return the norm of order `norm_type` of each gradient  # (n,); NaN or infinite only where a
    scalar is, or where float64 overflows.

    `known` are the norms of what this process holds, if they have just been measured. One transfer
    to the host per device; for gradients that several processes hold parts of (DTensor), one
    reduction per mesh.
    """
    each = (
        _of_parts([held_part(_summed(gradient)) for gradient in gradients], norm_type)
        if known is None
        else known
    )
    return _over_ranks(gradients, each, norm_type)


def total_of(norms: FloatArray, norm_type: float = 2.0) -> float:
    """Return the norm over several gradients from the norm of each."""
    if len(norms) == 0:
        return 0.0
    if np.isnan(norms).any():
        return math.nan
    if norm_type == 2.0:
        return math.hypot(*norms.tolist())
    return float(_scaled_norm(torch.from_numpy(norms), norm_type))


def _of_parts(parts: Sequence[Tensor], norm_type: float) -> FloatArray:
    if norm_type not in (2.0, math.inf):
        return np.array([_general_norm(part, norm_type) for part in parts])
    if parts and all(part.device.type == "cpu" for part in parts):
        measured = host_backend().measure(parts, parts, range(len(parts)), (), sample=False)
        return measured.values["grad_norm" if norm_type == 2.0 else "grad_max"]
    formula = GRAD_NORM if norm_type == 2.0 else GRAD_MAX
    out = np.zeros(len(parts))
    found: defaultdict[torch.device, list[tuple[Tensor, list[int]]]] = defaultdict(list)
    with without_user_modes():
        for batch in batches(
            (position, content)
            for position, part in enumerate(parts)
            if (content := readable(part)) is not None
        ):
            if batch.scalars().shape[1]:
                found[batch.numbers.device].append((formula(batch.scalars()), batch.positions))
        for device, results in found.items():
            packed = torch.cat([result.to(wide_dtype(device)) for result, _ in results])
            out[list(chain.from_iterable(positions for _, positions in results))] = (
                packed.cpu().double().numpy()
            )
    return out


def _general_norm(part: Tensor, norm_type: float) -> float:
    content = readable(part)
    if content is None:
        return math.nan
    numbers = content.values() if content.is_sparse else content
    return float(_scaled_norm(numbers.abs().to(torch.float64), norm_type))


def _scaled_norm(numbers: Tensor, norm_type: float) -> Tensor:
    largest = float(numbers.abs().max()) if numbers.numel() else 0.0
    scale = largest if norm_type and math.isfinite(largest) and largest else 1.0
    vector_norm = cast("Callable[[Tensor, float], Tensor]", torch.linalg.vector_norm)
    return vector_norm(numbers / scale, norm_type) * scale


def _summed(gradient: Tensor) -> Tensor:
    """Return the sum of a gradient whose summands lie on several processes."""
    distributed = distributed_tensor(gradient)
    if distributed is None or not any(
        placement.is_partial() for placement in distributed.placements
    ):
        return gradient
    from torch.distributed.tensor import Replicate

    whole: Tensor = distributed.redistribute(
        placements=[Replicate() if p.is_partial() else p for p in distributed.placements]
    )
    return whole


def _over_ranks(gradients: Sequence[Tensor], each: FloatArray, norm_type: float) -> FloatArray:
    """Return the norms of whole gradients from those of the parts that this process holds."""
    alike: defaultdict[Any, list[int]] = defaultdict(list)
    for position, gradient in enumerate(gradients):
        distributed = distributed_tensor(gradient)
        if distributed is not None:
            split = tuple(not (p.is_replicate() or p.is_partial()) for p in distributed.placements)
            if any(split):
                alike[distributed.device_mesh, split].append(position)
    whole = each.copy()
    for (mesh, split), positions in alike.items():
        whole[positions] = _reduced(each[positions], mesh, split, norm_type)
    return whole


def _reduced(norms: FloatArray, mesh: Any, split: tuple[bool, ...], norm_type: float) -> FloatArray:
    from torch.distributed.tensor import DTensor, Partial, Replicate

    by_largest = math.isinf(norm_type)
    numbers = np.where(np.isnan(norms), np.inf, norms) if by_largest else norms
    if norm_type and not by_largest:
        numbers = _powers(norms, norm_type)
    kind = Partial("max" if norm_type > 0 else "min") if by_largest else Partial("sum")
    local = torch.from_numpy(numbers).to(mesh.device_type)
    spread = DTensor.from_local(
        local, mesh, [kind if cut else Replicate() for cut in split], run_check=False
    )
    whole: FloatArray = np.asarray(spread.full_tensor().cpu(), np.float64)
    return whole if by_largest or not norm_type else np.power(whole, 1 / norm_type)


@in_own_context
def _powers(norms: FloatArray, norm_type: float) -> FloatArray:
    with np.errstate(over="ignore", invalid="ignore"):
        return norms**norm_type
