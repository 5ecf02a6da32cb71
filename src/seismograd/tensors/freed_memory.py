"""Check whether the memory of a tensor is there: reading freed memory crashes the process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from seismograd.exception_origin import raised_by_user

PLAIN_TYPES = (Tensor, torch.nn.Parameter)


def is_readable(tensor: Tensor) -> bool:
    """Return whether all numbers of a tensor can be read: its storage holds as many bytes as its
    view covers.

    Sharding frees the storage of parameters it has gathered, and programs that save memory shrink
    it themselves. There is none behind tensors on `meta`, fake and functional ones, and inside
    functorch; the storage of a subclass that only wraps others is theirs.
    """
    if tensor.layout is torch.sparse_coo:
        return is_readable(tensor._indices()) and is_readable(tensor._values())
    if tensor.layout is not torch.strided:
        # compressed and opaque layouts show no storage that could have been freed
        return not tensor.is_meta
    is_plain = type(tensor) in PLAIN_TYPES
    try:
        # A tensor of a functionalized program has no values; nothing public tells.
        if is_plain and torch._is_functional_tensor(tensor):  # pyright: ignore[reportPrivateImportUsage, reportPrivateUsage]
            return False
        storage = tensor.untyped_storage()
        # a storage takes longer to say where it is than all else here
        if not (is_plain and tensor.is_cpu) and storage.device.type == "meta":
            return False
        if tensor.numel() == 0:
            return True
        if storage.nbytes() < (
            tensor.nbytes + tensor.storage_offset() * tensor.element_size()
            if tensor.is_contiguous()
            else num_bytes_reached(tensor)
        ):
            return False
        return is_plain or _has_address(storage) or _all_readable(_wrapped(tensor))
    except RuntimeError as error:
        if raised_by_user(error):
            raise
        return False


def num_bytes_reached(tensor: Tensor) -> int:
    """Return how many bytes a storage must hold for a view of it that has numbers."""
    if tensor.is_contiguous():
        return int(tensor.nbytes + tensor.storage_offset() * tensor.element_size())
    reach = sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
    return int(tensor.storage_offset() + reach + 1) * tensor.element_size()


def are_dense_readable(tensors: Sequence[Tensor]) -> bool:
    """Return whether plain strided tensors without gaps can all be read; takes a fifth of a
    microsecond each.
    """
    for tensor in tensors:
        offset, reached = tensor.storage_offset(), tensor.nbytes
        if offset:
            reached += offset * tensor.element_size()
        if tensor.untyped_storage().nbytes() < reached and tensor.numel() > 0:
            return False
    return True


def _has_address(storage: torch.UntypedStorage) -> bool:
    try:
        return storage.data_ptr() != 0
    except RuntimeError:  # torch says so for the storage of a subclass that only wraps
        return False


def _wrapped(tensor: Tensor) -> list[Tensor]:
    """Return the tensors that a subclass consists of, as it declares them or keeps them."""
    flatten: Callable[[], tuple[list[str], object]] | None = getattr(
        tensor, "__tensor_flatten__", None
    )
    names = list(vars(tensor)) if flatten is None else flatten()[0]
    kept: list[object] = [getattr(tensor, name) for name in names]
    return [each for each in kept if isinstance(each, Tensor)]


def _all_readable(wrapped: Sequence[Tensor]) -> bool:
    return bool(wrapped) and all(map(is_readable, wrapped))
