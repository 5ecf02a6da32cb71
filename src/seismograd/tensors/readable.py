"""Read the real numbers of a tensor, whatever its dtype, layout and device."""

from __future__ import annotations

import torch
from torch import Tensor

from seismograd.tensors.dtensor import held_part
from seismograd.tensors.freed_memory import is_readable

COMPRESSED_LAYOUTS = (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)


def readable(tensor: Tensor) -> Tensor | None:
    """Return what this process holds of a tensor, detached, as real floating-point numbers:
    strided, or sparse COO and coalesced.

    A complex number becomes two real ones in a last dimension. `None` where there are no
    floating-point numbers to read: integers, quantized, nested, on `meta`, or with the memory
    freed.
    """
    tensor = held_part(tensor)
    if (
        not (tensor.is_floating_point() or tensor.is_complex())
        or tensor.is_nested
        or not is_readable(tensor)
    ):
        return None
    if tensor.layout is torch.strided:
        return _real(tensor)
    if tensor.layout in COMPRESSED_LAYOUTS:
        tensor = tensor.to_sparse()
    if not tensor.is_sparse:
        return _real(tensor.to_dense())
    # Entries of one index add up: before they are summed, neither their number nor their size is
    # the gradient's.
    tensor = tensor.coalesce()
    shape = (*tensor.shape, 2) if tensor.is_complex() else tensor.shape
    return torch.sparse_coo_tensor(
        tensor.indices(), _real(tensor.values()), shape, check_invariants=False, is_coalesced=True
    )


def _real(tensor: Tensor) -> Tensor:
    """Return a real view of a strided tensor, in a dtype that torch computes in."""
    if tensor.is_complex():
        return torch.view_as_real(tensor.resolve_conj().resolve_neg())
    # Eight-bit floats have no arithmetic; float32 holds each of them exactly.
    return tensor.float() if tensor.element_size() == 1 else tensor.resolve_neg()
