"""The reference backend gives what Python's own numbers give, for every dtype, shape and layout."""

from __future__ import annotations

import math
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from seismograd.measure import tensor_batches
from seismograd.measure.backend import Measurement
from seismograd.measure.reference import ReferenceBackend
from seismograd.measure.statistics import FORMULAS, formula
from seismograd.schema import STATISTICS
from tests.measure.tensors import (
    exponents_of,
    norm_of,
    rows_alive,
    scalars_of,
    sparse,
    strided,
    sum_of,
)

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")


def measure(
    *gradients: Tensor, weights: tuple[Tensor, ...] | None = None, scalars: tuple[Tensor, ...] = ()
) -> Measurement:
    return ReferenceBackend().measure(
        gradients,
        gradients if weights is None else weights,
        range(len(gradients)),
        scalars,
        sample=True,
    )


def assert_is_by_the_book(measured: Measurement, index: int, tensor: Tensor) -> None:
    scalars = scalars_of(tensor)
    value = {name: float(numbers[index]) for name, numbers in measured.values.items()}
    norm = norm_of(scalars)
    assert value["grad_norm"] == pytest.approx(norm, rel=1e-13, abs=0, nan_ok=True)
    assert measured.samples["weight_norm"][index] == pytest.approx(
        norm, rel=1e-13, abs=0, nan_ok=True
    )
    largest = math.nan if any(map(math.isnan, scalars)) else max(map(abs, scalars), default=0.0)
    assert np.array_equal(value["grad_max"], largest, equal_nan=True)
    magnitude = sum(map(abs, scalars))
    # else the order of the sum decides whether it overflows
    if math.isfinite(magnitude) or not all(map(math.isfinite, scalars)):
        slack = 1e-15 * len(scalars) * magnitude if math.isfinite(magnitude) else 0.0
        assert value["grad_sum"] == pytest.approx(sum_of(scalars), rel=0, abs=slack, nan_ok=True)
    assert value["zeros"] == sum(x == 0 for x in scalars)
    assert value["nonfinite"] == sum(not math.isfinite(x) for x in scalars)
    assert measured.samples["exponents"][index].tolist() == exponents_of(scalars)
    assert measured.samples["dead_rows"][index] == rows_alive(tensor).count(False)


@given(st.lists(strided() | sparse(), max_size=4))
def test_every_statistic_is_by_the_book(tensors: list[Tensor]) -> None:
    measured = measure(*tensors)
    for index, tensor in enumerate(tensors):
        assert_is_by_the_book(measured, index, tensor)


@given(strided(), st.integers(1, 7), st.integers(0, 40), st.integers(1, 4))
def test_no_statistic_depends_on_how_tensors_are_cut_and_stacked(
    tensor: Tensor, chunk: int, largest_stacked: int, copies: int
) -> None:
    stacking = mock.patch.multiple(
        tensor_batches, LARGEST_STACKED=largest_stacked, LARGEST_STACK=2 * largest_stacked
    )
    with mock.patch.object(formula, "CHUNK", chunk), stacking:
        measured = measure(*[tensor] * copies)
    for index in range(copies):
        assert_is_by_the_book(measured, index, tensor)


@pytest.mark.parametrize(
    ("value", "dtype", "count"),
    [
        (100.0, torch.float16, 10**6),
        (3e19, torch.float32, 4),
        (1e-30, torch.float32, 4),
        (1e200, torch.float64, 4),
        (1e-200, torch.float64, 4),
        (5e-324, torch.float64, 4),
        (1.7e308, torch.float64, 1),
    ],
)
def test_a_norm_neither_overflows_nor_underflows(
    value: float, dtype: torch.dtype, count: int
) -> None:
    gradient = torch.full((count,), value, dtype=torch.float64).to(dtype)
    expected = float(gradient[0]) * math.sqrt(count)
    assert measure(gradient).values["grad_norm"][0] == pytest.approx(expected, rel=1e-13, abs=0)


def test_a_norm_beyond_every_double_is_infinite_and_its_largest_is_not() -> None:
    measured = measure(torch.full((4,), 1.7e308, dtype=torch.float64))
    assert measured.values["grad_norm"][0] == math.inf
    assert measured.values["grad_max"][0] == 1.7e308
    assert measured.values["nonfinite"][0] == 0


@pytest.mark.parametrize("chunk", [2, 7, 1 << 18])
@pytest.mark.parametrize(
    "infinities", [(math.inf,), (-math.inf,), (math.inf, -math.inf), (-math.inf, math.nan)]
)
def test_the_sum_with_infinities_is_theirs_however_the_others_overflow(
    chunk: int, infinities: tuple[float, ...]
) -> None:
    gradient = torch.tensor([1.7e308] * 9 + [-1.7e308] * 3, dtype=torch.float64)
    for position in range(len(gradient) - len(infinities)):
        changed = gradient.clone()
        changed[position : position + len(infinities)] = torch.tensor(
            infinities, dtype=torch.float64
        )
        with mock.patch.object(formula, "CHUNK", chunk):
            found = measure(changed).values["grad_sum"][0]
        np.testing.assert_equal(found, sum(infinities))


def test_implied_zeros_of_a_large_sparse_gradient_are_counted_and_never_looked_at() -> None:
    gradient = torch.sparse_coo_tensor(
        torch.tensor([[2, 2, 5], [0, 0, 9]]),
        torch.tensor([1.0, 2.0, 4.0]),
        (8, 10**12),
        check_invariants=True,
    )
    measured = measure(gradient, weights=(torch.zeros(()),))
    assert measured.values["zeros"][0] == 8 * 10**12 - 2
    assert measured.values["grad_norm"][0] == 5.0
    assert measured.samples["dead_rows"][0] == 6


@pytest.mark.parametrize("compress", [Tensor.to_sparse_csr, Tensor.to_sparse_csc])
@pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta")
def test_compressed_sparse_gradients_are_measured(compress: object) -> None:
    dense = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 3.0]])
    assert callable(compress)
    assert_is_by_the_book(measure(compress(dense)), 0, dense)


def test_eight_bit_floats_are_measured() -> None:
    gradient = torch.tensor([[1.0, -2.0], [0.0, 0.5]]).to(torch.float8_e4m3fn)
    assert_is_by_the_book(measure(gradient), 0, gradient.float())


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_what_holds_no_floating_numbers_is_not_measured_and_is_no_error() -> None:
    freed = torch.ones(4)
    freed.untyped_storage().resize_(0)
    tensors = [
        torch.ones(3, dtype=torch.int32),
        torch.ones(3, dtype=torch.bool),
        torch.ones(3, device="meta"),
        torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        freed,
    ]
    measured = measure(*tensors, torch.ones(3), scalars=tuple(tensors[:3]))
    for numbers in (*measured.values.values(), *measured.samples.values()):
        assert np.isnan(numbers[:-1]).all()
        assert np.isfinite(numbers[-1]).all()
    assert np.isnan(measured.scalars).all()


def test_the_weights_norm_is_that_of_the_weights() -> None:
    weights = (torch.full((3, 3), 2.0), torch.ones((), dtype=torch.int64), torch.empty(0))
    assert np.array_equal(
        measure(*[torch.ones(1)] * 3, weights=weights).samples["weight_norm"],
        [6.0, math.nan, 0.0],
        equal_nan=True,
    )


def test_scalars_come_along() -> None:
    scalars = (
        torch.tensor(2.5, requires_grad=True),
        torch.tensor([1.25], dtype=torch.bfloat16),
        torch.tensor(math.nan),
        torch.ones(2),
    )
    assert np.array_equal(
        measure(scalars=scalars).scalars, [2.5, 1.25, math.nan, math.nan], equal_nan=True
    )


def test_sampled_statistics_are_measured_only_when_asked_for() -> None:
    measured = ReferenceBackend().measure(
        [torch.ones(2, 2)], [torch.ones(2, 2)], [0], [], sample=False
    )
    assert set(measured.values) == {s.name for s in STATISTICS if not s.sampled} - {
        "carried",
        "applied_norm",
        "update_ratio",
        "unmoved",
    }
    assert not measured.samples


def test_every_recorded_statistic_has_a_formula() -> None:
    assert {f.name for f in FORMULAS} | {
        "dead_rows",
        "carried",
        "applied_norm",
        "update_ratio",
        "unmoved",
    } == {s.name for s in STATISTICS}
