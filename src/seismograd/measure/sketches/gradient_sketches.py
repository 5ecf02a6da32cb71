"""Sketch gradients as they are: whole, or the part of a DTensor that this process holds.

A sketch is linear, so those of the parts add up to that of the whole, on several devices and
processes as in several micro-batches.

Shapes: n gradients, W sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seismograd.measure.backend import PendingNumbers
from seismograd.measure.native import native_sketch
from seismograd.measure.native.library import load
from seismograd.measure.sketches.position_runs import PositionRuns, runs_of, whole
from seismograd.measure.sketches.reference_sketch import sketch_at, sketch_of
from seismograd.measure.transfer import Parcel
from seismograd.schema import SKETCH_WIDTH, FloatArray
from seismograd.tensors.dtensor import distributed_tensor
from seismograd.tensors.isolation import without_user_modes
from seismograd.tensors.readable import readable
from seismograd.tensors.shards import local_shard_of
from seismograd.tensors.tensor_part import TensorPart


@dataclass(frozen=True, slots=True, eq=False)
class GradientSketches:
    """The sketch of each gradient, NaN where it has none  # (n, W). With `pending` they are there
    only when that has finished.
    """

    values: FloatArray
    pending: PendingNumbers | None = None


def sketch_gradients(gradients: Sequence[Tensor]) -> GradientSketches:
    """Return the sketches of gradients of any dtype, layout and device; nothing waits for a
    device.

    That of one is NaN where its numbers cannot be read, or nobody knows where they stand in the
    whole.
    """
    kernel = load()
    if kernel is not None:
        plain = native_sketch.sketch_plain(kernel, gradients)
        if plain is not None:
            return GradientSketches(plain)
    out, parcel = np.full((len(gradients), SKETCH_WIDTH), np.nan), Parcel()
    ours: list[tuple[int, Tensor, PositionRuns]] = []
    with without_user_modes():
        for position, gradient in enumerate(gradients):
            numbers = readable(gradient)
            runs = None if numbers is None else _runs(gradient)
            if numbers is None or runs is None:
                continue
            if numbers.is_sparse:
                parcel.add(_sketch_of_sparse(numbers)[None], out, [position])
            elif kernel is not None and native_sketch.takes(numbers):
                ours.append((position, numbers, runs))
            else:
                parcel.add(sketch_of(numbers.contiguous(), runs)[None], out, [position])
        if kernel is not None and ours:
            positions, tensors, places = zip(*ours, strict=True)
            out[list(positions)] = native_sketch.sketch_all(kernel, tensors, places)
        delivery = parcel.send()
    if delivery.is_done():
        delivery.finish()
        return GradientSketches(out)
    return GradientSketches(out, delivery)


def _runs(gradient: Tensor) -> PositionRuns | None:
    """Return where what this process holds of a gradient stands in the whole; `None` where that is
    not known.
    """
    width = 2 if gradient.is_complex() else 1
    if type(gradient) is TensorPart:
        whole_numel, numel = (math.prod(gradient.whole),), (gradient.numel(),)
        return runs_of(whole_numel, (gradient.start,), numel, width) if numel[0] else whole(0)
    distributed = distributed_tensor(gradient)
    if distributed is None:
        return whole(gradient.numel() * width)
    shard, held = local_shard_of(gradient), tuple(distributed._local_tensor.shape)
    if shard.held == 0:
        return whole(0)
    if len(shard.offset) != len(held) or -1 in shard.offset:
        return None
    return runs_of(tuple(distributed.shape), shard.offset, held, width)


def _sketch_of_sparse(numbers: Tensor) -> Tensor:
    """Return the sketch of a coalesced sparse gradient  # (W,)."""
    values, indices = numbers.values(), numbers.indices()
    rows = torch.zeros(indices.shape[1], dtype=torch.int64, device=indices.device)
    for index, size in zip(indices, numbers.shape, strict=False):
        rows = rows * size + index
    within = values[0].numel() if len(values) else 1
    at = torch.arange(within, dtype=torch.int64, device=indices.device)
    return sketch_at(values.reshape(-1), (rows[:, None] * within + at).reshape(-1))
