"""Determine which part of a parameter this process holds, and which of the processes that hold the
same part reports it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from seismograd.tensors.dtensor import distributed_tensor, held_part
from seismograd.tensors.freed_memory import is_readable
from seismograd.tensors.tensor_part import TensorPart

ShardKind = Literal["plain", "shard", "partial"]


@dataclass(frozen=True, slots=True)
class LocalShard:
    """The part of one parameter's gradient that a process holds.

    `plain`: an ordinary tensor, the same on every process that has one of this name. `shard`: a
    part of a DTensor; `held` scalars of it, beginning at `offset`. `partial`: one of `num_summands`
    of such a part, as of the weights of a normalization under sequence parallelism: no statistic of
    the sum follows from those of the summands. `owner` is false for all but one of the processes of
    a mesh that hold the same. `whole_rows`: no row is split, so counts of rows add up. `some`: the
    mesh has only some of the processes, so that others may hold a replica, or another tensor.
    """

    kind: ShardKind
    owner: bool = True
    held: int = 0
    offset: tuple[int, ...] = ()
    whole_rows: bool = True
    num_summands: int = 1
    some: bool = False


MAX_SUMMAND = 1 << 16  # scalars that are sent whole
PLAIN = LocalShard("plain")
STRIDED = "_StridedShard"  # torch's name for a shard of a shard of one dimension


def held_element(tensor: torch.Tensor, index: tuple[int, ...]) -> torch.Tensor | None:
    """Return one scalar by its index in the whole tensor, `None` when another process holds it, or
    its memory was freed.
    """
    distributed = distributed_tensor(tensor)
    local = held_part(tensor)
    if not is_readable(local):
        return None
    if type(tensor) is TensorPart:
        return _element_of_part(tensor, local, index)
    if distributed is None:
        return local[index]
    shard = local_shard_of(tensor)
    if shard.kind == "partial" or len(shard.offset) != len(index):
        return None
    inside = tuple(i - start for i, start in zip(index, shard.offset, strict=True))
    if shard.held == 0 or any(
        not 0 <= i < size for i, size in zip(inside, local.shape, strict=True)
    ):
        return None
    return local[inside]


def _element_of_part(
    part: TensorPart, local: torch.Tensor, index: tuple[int, ...]
) -> torch.Tensor | None:
    position = 0
    for i, size in zip(index, part.whole, strict=True):
        position = position * size + i
    flat = local.reshape(-1)
    return flat[position - part.start] if 0 <= position - part.start < len(flat) else None


def local_shard_of(tensor: torch.Tensor) -> LocalShard:
    """Return the shard of a tensor that this process holds."""
    if type(tensor) is TensorPart:
        return LocalShard(
            "shard", held=tensor.numel(), offset=(tensor.start,), whole_rows=tensor.is_whole
        )
    distributed = distributed_tensor(tensor)
    if distributed is None:
        return PLAIN
    placements, mesh = distributed.placements, distributed.device_mesh
    coordinate: list[int] | None = mesh.get_coordinate()
    if coordinate is None:
        return LocalShard("shard", owner=False)
    summed = [mesh.size(dim) for dim, p in enumerate(placements) if p.is_partial()]
    owner = all(c == 0 for c, p in zip(coordinate, placements, strict=True) if p.is_replicate())
    split = [p for p in placements if p.is_shard() or type(p).__name__ == STRIDED]
    whole_rows = all(getattr(p, "dim", None) == 0 for p in split)
    held = int(distributed._local_tensor.numel())
    if any(str(getattr(p, "reduce_op", "sum")) != "sum" for p in placements if p.is_partial()):
        return LocalShard("partial", False, held)
    kind: ShardKind = "partial" if summed else "shard"
    return LocalShard(
        kind,
        owner,
        held,
        _offset(distributed, coordinate),
        whole_rows,
        math.prod(summed),
        int(mesh.size()) < torch.distributed.get_world_size(),
    )


def _offset(distributed: Any, coordinate: list[int]) -> tuple[int, ...]:
    """Return where the shard begins. Where that cannot be said of a strided shard, its position in
    the mesh distinguishes it from the others.
    """
    strided = any(type(p).__name__ == STRIDED for p in distributed.placements)
    known = _strided_offset(distributed, coordinate) if strided else None
    if known is not None:
        return known
    try:
        from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

        if not strided:
            return tuple(
                compute_local_shape_and_global_offset(
                    distributed.shape, distributed.device_mesh, distributed.placements
                )[1]
            )
    except (ImportError, TypeError):
        pass
    shards = (
        c
        for c, p in zip(coordinate, distributed.placements, strict=True)
        if not (p.is_replicate() or p.is_partial())
    )
    return (*([-1] * (distributed.dim() + 1)), *shards)


def _strided_offset(distributed: Any, coordinate: list[int]) -> tuple[int, ...] | None:
    """Return where a shard of a shard begins: a strided one is cut out of what the later dimensions
    of the mesh have left of the same dimension of the tensor. `None` for any other order of cuts.
    """
    offset, mesh = [0] * distributed.dim(), distributed.device_mesh
    left = list(distributed.shape)
    cuts = [(each, p) for each, p in enumerate(distributed.placements) if hasattr(p, "dim")]
    strided = [(each, p) for each, p in cuts if type(p).__name__ == STRIDED]
    for each, placement in strided:
        later = [mesh.size(other) for other, p in cuts if other > each and p.dim == placement.dim]
        if math.prod(later) != getattr(placement, "split_factor", 0) or len(strided) > 1:
            return None
    for each, placement in [cut for cut in cuts if cut not in strided] + strided:
        size = -(-left[placement.dim] // mesh.size(each))
        begin = min(size * coordinate[each], left[placement.dim])
        offset[placement.dim] += begin
        left[placement.dim] = min(size, left[placement.dim] - begin)
    return tuple(offset) if left == list(distributed._local_tensor.shape) else None


class ShardTable:
    """The shard of every measured column. `version` grows with every change."""

    def __init__(self) -> None:
        self.version = 0
        self.has_summands = False
        # of a total norm that every process has only a part of
        self.clip_order: float | None = None
        # by column: the norm of each and a copy of it
        self.summands: dict[int, list[tuple[float, torch.Tensor]]] = {}
        self._by_column: dict[int, LocalShard] = {}
        self._specs: dict[int, object] = {}
        self.plain_columns: Sequence[int] = ()  # the last list seen, if nothing else was seen since

    def see(self, column: int, gradient: torch.Tensor) -> None:
        """Update the shard of a column; quick when it is unchanged."""
        spec: object = (
            (gradient.start, gradient.numel(), gradient.whole)
            if type(gradient) is TensorPart
            else getattr(gradient, "_spec", None)
        )
        if column in self._by_column and self._specs.get(column) == spec:
            return
        self._specs[column], self.plain_columns = spec, ()
        shard = local_shard_of(gradient)
        self._set(column, shard)

    def see_plain(self, columns: Sequence[int]) -> None:
        """Note that these columns are ordinary tensors; quick for the very list of the last
        time.
        """
        if columns is self.plain_columns:
            return
        self.plain_columns = columns
        for column in columns:
            if self._by_column.get(column) is not PLAIN:
                self._specs[column] = None
                self._set(column, PLAIN)

    def _set(self, column: int, shard: LocalShard) -> None:
        if self._by_column.get(column) != shard:
            self._by_column[column] = shard
            self.has_summands |= shard.kind == "partial"
            self.version += 1

    def store_summand(self, column: int, held: torch.Tensor, norm: float) -> None:
        """Keep a copy of a gradient that is only a summand, unless it is large. It stays on its
        device until it is read.
        """
        shard = self._by_column.get(column)
        if (
            shard is not None
            and shard.kind == "partial"
            and shard.owner
            and 0 < shard.held <= MAX_SUMMAND
            and is_readable(held)
        ):
            self.summands.setdefault(column, []).append((norm, held.clone()))

    def take_summands(self) -> dict[int, list[tuple[float, torch.Tensor]]]:
        """Return the copies of this iteration, and forget them."""
        taken, self.summands = self.summands, {}
        return taken

    def of(self, num_columns: int) -> tuple[LocalShard | None, ...]:
        """Return the shards of the first columns; `None` where no gradient was seen yet  # (P,)."""
        return tuple(self._by_column.get(column) for column in range(num_columns))

    def clipped(self, total: object) -> None:
        """Note the total norm that a clip returned: for DTensors it may be only this process's
        part.
        """
        distributed = distributed_tensor(total) if isinstance(total, torch.Tensor) else None
        if distributed is None or not any(p.is_partial() for p in distributed.placements):
            return
        partial = next(p for p in distributed.placements if p.is_partial())
        self.clip_order = float(getattr(partial, "norm_type", 2.0))

    def take_clip_order(self) -> float:
        """Return the order of the norm of the iteration's clip, NaN when its total is whole; and
        forget it.
        """
        order, self.clip_order = self.clip_order, None
        return float("nan") if order is None else order
