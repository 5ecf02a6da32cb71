"""One tensor, and what an optimizer remembers of one, measured by the kernel in one call: as torch
computes it, or not at all.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from seismograd.capture.xray.saturation import saturated_share
from seismograd.measure.native import moments, one_tensor, tensor_reads
from seismograd.measure.native.library import DTYPES, load

pytestmark = pytest.mark.skipif(
    load() is None or not tensor_reads.has_extension(), reason="there is no kernel, or no extension"
)
floats = st.floats(width=32, allow_nan=True, allow_infinity=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(scalars=st.lists(floats, min_size=1, max_size=40))
def test_a_tensor_has_the_numbers_of_torch(scalars: list[float], dtype: torch.dtype) -> None:
    tensor = torch.tensor(scalars).to(dtype)
    measured = one_tensor.measure(tensor)
    assert measured is not None
    wide = tensor.double()
    assert measured.norm == pytest.approx(float(wide.norm()), rel=1e-6, nan_ok=True)
    assert measured.largest == pytest.approx(float(wide.abs().max()), rel=0, nan_ok=True)
    assert measured.zeros == (tensor == 0).sum()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(scalars=st.lists(floats, min_size=1, max_size=40), low=floats, high=floats)
def test_what_is_outside_of_an_interval_is_counted(
    scalars: list[float], dtype: torch.dtype, low: float, high: float
) -> None:
    tensor = torch.tensor(scalars).to(dtype)
    wide = tensor.double()
    assert one_tensor.num_outside(tensor, low, high) == ((wide <= low) | (wide >= high)).sum()


@pytest.mark.parametrize("kind", ["sigmoid", "tanh", "softmax"])
def test_an_activation_is_saturated_where_its_derivative_is_small(kind: str) -> None:
    returned = torch.linspace(-1 if kind == "tanh" else 0, 1, 10_001)
    share = saturated_share(kind, None, returned)
    with tensor_reads.without_extension():  # without which the kernel is not asked
        by_torch = saturated_share(kind, None, returned)
    assert isinstance(share, float)
    assert isinstance(by_torch, Tensor)
    assert 0 < share == pytest.approx(float(by_torch))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6.0).reshape(2, 3).T,
        torch.ones(3, dtype=torch.int64),
        torch.ones(3, dtype=torch.complex64).imag,
        torch.ones(4, dtype=torch.complex64).conj().imag,
        torch.ones(3, device="meta"),
    ],
    ids=["transposed", "integers", "with gaps", "negated", "meta"],
)
def test_what_does_not_lie_row_by_row_is_left_to_torch(tensor: Tensor) -> None:
    assert not one_tensor.takes(tensor)
    assert one_tensor.measure(tensor) is None
    assert one_tensor.num_outside(tensor, 0.0, 1.0) is None
    assert not moments.takes(tensor)


def by_torch(
    gradient: Tensor, squares: Tensor, averages: Tensor, scale: float, biases: Any, eps: float
) -> tuple[float, ...]:
    root = (squares.double() / biases[1]).sqrt()
    there = root > 0
    ratios = [
        float((numbers.double()[there] / divisor / root[there]).square().mean().sqrt())
        for numbers, divisor in ((gradient, scale), (averages, biases[0]))
    ]
    return (*ratios, float(there.sum()), float((root < eps).double().mean()))


@given(
    rows=st.lists(
        st.tuples(floats, st.sampled_from([0.0, 1e-45, 1e-30, 1e-16, 0.5, 3e38, math.nan]), floats),
        min_size=1,
        max_size=40,
    ),
    scale=st.sampled_from([1.0, 1024.0]),
)
def test_moments_have_the_ratios_of_torch(
    rows: list[tuple[float, float, float]], scale: float
) -> None:
    gradient, squares, averages = (torch.tensor(column) for column in zip(*rows, strict=True))
    assert moments.takes(gradient, squares, averages)
    biases, eps = (0.1, 0.001), 1e-8
    ratios = moments.measure(gradient, squares, averages, scale=scale, biases=biases, eps=eps)
    expected = by_torch(gradient, squares, averages, scale, biases, eps)
    assert tuple(ratios) == pytest.approx(expected, rel=1e-9, nan_ok=True)


def test_without_averages_the_rest_is_the_same() -> None:
    gradient, squares = torch.randn(1000), torch.rand(1000)
    both = [
        moments.measure(gradient, squares, kept, scale=1.0, biases=(1.0, 1.0), eps=0.0)
        for kept in (None, torch.randn(1000))
    ]
    assert both[0].gradient == both[1].gradient > 0
    assert both[0].places == both[1].places == 1000


@given(
    shape=st.lists(st.integers(1, 9), max_size=3),
    turn=st.integers(0, 20),
    most=st.integers(1, 200),
    has_average=st.booleans(),
)
def test_rows_are_those_of_their_turn(
    shape: list[int], turn: int, most: int, has_average: bool
) -> None:
    gradient, squares, average = torch.randn(shape), torch.rand(shape), torch.randn(shape)
    options: dict[str, Any] = {"scale": 2.0, "biases": (0.1, 0.001), "eps": 0.5}
    kept = average if has_average else None
    found = moments.measure_rows(gradient, squares, kept, turn=turn, most=most, **options)
    num_rows = shape[0] if shape else 1
    rows = min(num_rows, max(1, most * num_rows // gradient.numel()))
    start = min(turn * rows % num_rows, num_rows - rows)
    some = [
        None if each is None else each.reshape(num_rows, -1)[start : start + rows].contiguous()
        for each in (gradient, squares, kept)
    ]
    assert found == moments.measure(*some, **options)


@pytest.mark.parametrize(
    "odd",
    [
        torch.ones(3, 2).T,
        torch.ones(2, 3, dtype=torch.float64),
        torch.ones(6),
        torch.ones(2, 3, device="meta"),
        1.5,
    ],
    ids=["transposed", "float64", "another shape", "meta", "no tensor"],
)
@pytest.mark.parametrize("position", [1, 2])
def test_of_what_is_unlike_the_gradient_there_are_none(odd: Any, position: int) -> None:
    tensors: list[Any] = [torch.ones(2, 3) for _ in range(3)]
    tensors[position] = odd
    options: dict[str, Any] = {"scale": 1.0, "biases": (1.0, 1.0), "eps": 0.0}
    assert moments.measure_rows(*tensors, turn=0, most=100, **options) is None
