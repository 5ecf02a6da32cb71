"""Copies of tensors on the CPU, of what this process holds of them, and where that lies in the
whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seismograd.tensors.dtensor import distributed_tensor, held_part
from seismograd.tensors.freed_memory import is_readable
from seismograd.tensors.isolation import without_user_modes
from seismograd.tensors.shards import local_shard_of

Placement = dict[str, Any]


def is_stored_here(tensor: Tensor, rank: int) -> bool:
    """Return whether this process writes what it holds of a tensor: rank 0 all of it, others what
    only they hold.
    """
    if not is_readable(held_part(tensor)):
        return False
    if distributed_tensor(tensor) is None:
        return rank == 0
    return local_shard_of(tensor).owner


def num_bytes(tensors: Iterable[Tensor]) -> int:
    """Return how many bytes copies of these take, dense."""
    return sum(held_part(each).numel() * each.element_size() for each in tensors)


def copies_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return dense copies in memory of their own: safetensors refuses tensors that share memory."""
    with without_user_modes():
        return {name: _copy(held_part(tensor)) for name, tensor in tensors.items()}


def placements_of(tensors: Mapping[str, Tensor]) -> dict[str, Placement]:
    """Return where in the whole the held part of each DTensor lies: the `shape` of the whole, the
    `offset` of the part (`None` where the part is no block of it), `partial` where it is one
    summand of the block, and torch's words for the placements and the mesh.
    """
    return {
        name: _placement(tensor, distributed)
        for name, tensor in tensors.items()
        if (distributed := distributed_tensor(tensor)) is not None
    }


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write tensors by name to one safetensors file, at once: nobody sees half of it."""
    # Only a program that asks for one writes one.
    from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]

    new = path.with_name(path.name + ".new")
    save_file(dict(tensors), new, metadata=dict(metadata))
    new.replace(path)


def _copy(tensor: Tensor) -> Tensor:
    dense = tensor if tensor.layout is torch.strided else tensor.to_dense()
    return dense.resolve_conj().resolve_neg().to("cpu", copy=True).contiguous()


def _placement(tensor: Tensor, distributed: Any) -> Placement:
    shard = local_shard_of(tensor)
    is_block = len(shard.offset) == distributed.dim()
    return {
        "shape": list(distributed.shape),
        "offset": list(shard.offset) if is_block else None,
        "partial": shard.kind == "partial",
        "placements": str(distributed.placements),
        "mesh": list(distributed.device_mesh.mesh.shape),
    }
