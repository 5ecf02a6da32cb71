"""Tensors of every kind, and what their statistics are by the book, in Python's own numbers."""

from __future__ import annotations

import math

import torch
from hypothesis import strategies as st
from torch import Tensor

from seismograd.schema import (
    HISTOGRAM_BINS,
    HISTOGRAM_EXPONENTS_PER_BIN,
    HISTOGRAM_FIRST_EXPONENT,
)

REAL_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
DTYPES = (*REAL_DTYPES, torch.complex32, torch.complex64, torch.complex128)
SPECIAL = (
    0.0,
    -0.0,
    math.nan,
    math.inf,
    -math.inf,
    1.0,
    -1.5,
    100.0,
    3e19,
    1e-30,
    1e200,
    -1e200,
    1e-200,
    5e-324,
    -1e-310,
    1e-40,
    -6e-8,
    2.0**-96,
    2.0**-97,
    2.0**-94,
    2.0**-95 * 1.999999,
    2.0**30,
    2.0**32,
    1.7e308,
)

numbers = st.sampled_from(SPECIAL) | st.floats(width=64) | st.floats(-1e3, 1e3)
shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)


@st.composite
def strided(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = DTYPES) -> Tensor:
    """A strided tensor of any dtype, shape and stride."""
    dtype, shape = draw(st.sampled_from(dtypes)), draw(shapes)
    count = math.prod(shape) * (2 if dtype.is_complex else 1)
    values = torch.tensor(
        draw(st.lists(numbers, min_size=count, max_size=count)), dtype=torch.float64
    )
    if dtype.is_complex:
        tensor = torch.view_as_complex(values.to(dtype.to_real()).reshape(*shape, 2))
    else:
        tensor = values.to(dtype).reshape(shape)
    return draw(
        st.sampled_from([identity, transposed, gapped, expanded, channels_last, conjugated])
    )(tensor)


def identity(tensor: Tensor) -> Tensor:
    return tensor


def transposed(tensor: Tensor) -> Tensor:
    return tensor.permute(tuple(reversed(range(tensor.dim()))))


def gapped(tensor: Tensor) -> Tensor:
    """Every second one of a larger tensor that has NaN in between."""
    if tensor.dim() == 0:
        return tensor
    larger = torch.full((*tensor.shape[:-1], 2 * tensor.shape[-1]), math.nan, dtype=tensor.dtype)
    larger[..., ::2] = tensor
    return larger[..., ::2]


def expanded(tensor: Tensor) -> Tensor:
    return tensor.unsqueeze(0).expand(3, *tensor.shape)


def channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def conjugated(tensor: Tensor) -> Tensor:
    return tensor.conj() if tensor.is_complex() else torch._neg_view(tensor)


@st.composite
def sparse(draw: st.DrawFn) -> Tensor:
    """A sparse tensor whose entries may share an index; not of half precision, where their sum
    is rounded in an order of torch's own.
    """
    rows, columns, num_entries = (
        draw(st.integers(1, 6)),
        draw(st.integers(1, 4)),
        draw(st.integers(0, 6)),
    )
    indices = torch.tensor(
        draw(st.lists(st.integers(0, rows - 1), min_size=num_entries, max_size=num_entries)),
        dtype=torch.int64,
    )
    values = draw(
        st.lists(
            st.lists(st.integers(-2, 2), min_size=columns, max_size=columns),
            min_size=num_entries,
            max_size=num_entries,
        )
    )
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.complex64]))
    entries = torch.tensor(values, dtype=dtype).reshape(num_entries, columns)
    return torch.sparse_coo_tensor(
        indices.unsqueeze(0), entries, (rows, columns), check_invariants=True
    )


def scalars_of(tensor: Tensor) -> list[float]:
    """Its scalars as Python numbers, a complex one as two."""
    tensor = tensor.to_dense().resolve_conj().resolve_neg()
    return (
        (torch.view_as_real(tensor) if tensor.is_complex() else tensor)
        .to(torch.float64)
        .reshape(-1)
        .tolist()
    )


def norm_of(scalars: list[float]) -> float:
    """`math.hypot` neither overflows nor underflows; C lets it ignore NaN beside an infinity."""
    return math.nan if any(math.isnan(x) for x in scalars) else math.hypot(*scalars)


def sum_of(scalars: list[float]) -> float:
    if all(math.isfinite(x) for x in scalars):
        return math.fsum(scalars)
    return sum(x for x in scalars if not math.isfinite(x))


def exponents_of(scalars: list[float]) -> list[int]:
    counts = [0] * HISTOGRAM_BINS
    for x in scalars:
        if math.isfinite(x) and x != 0:
            exponent = math.frexp(x)[1] - 1  # 2^exponent <= |x| < 2^(exponent + 1)
            bin_number = (exponent - HISTOGRAM_FIRST_EXPONENT) // HISTOGRAM_EXPONENTS_PER_BIN
            counts[min(max(bin_number, 0), HISTOGRAM_BINS - 1)] += 1
    return counts


def rows_alive(tensor: Tensor) -> list[bool]:
    """Which rows hold a scalar other than zero; none for a tensor without rows."""
    if tensor.dim() < 2 or tensor.numel() == 0:
        return []
    return [any(x != 0 for x in scalars_of(row)) for row in tensor.to_dense()]
