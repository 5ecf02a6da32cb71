"""Gradients that lie as they did are measured with less looking, and what has moved, was freed or
is not ordinary is seen all the same.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from seismograd.measure.device_dispatch import DeviceDispatch
from seismograd.measure.native import tensor_reads
from seismograd.measure.native.library import POINTER, load
from seismograd.measure.native.native_backend import NativeBackend
from seismograd.measure.native.native_table import FEW as FEW_POINTERS
from seismograd.measure.native.native_table import make_table
from seismograd.measure.number_table import FEW, NumberTable, stacked
from seismograd.measure.reference import ReferenceBackend

LIBRARY = load()


def gradients(num: int) -> list[torch.Tensor]:
    return [torch.full((3, 5), float(i + 1)) for i in range(num)]


@pytest.mark.parametrize("num", [1, FEW_POINTERS, FEW_POINTERS + 1])
def test_a_table_follows_memory_that_moves(num: int) -> None:
    given = gradients(num)
    table = make_table(given)
    before = table.entries.copy()
    for now in (given, [*given[:-1], given[-1].clone()], gradients(num), given):
        assert table.fill(now)
        assert table.entries[:, POINTER].tolist() == [each.data_ptr() for each in now]
        np.testing.assert_array_equal(table.entries[:, 1:], before[:, 1:])


def test_a_table_leaves_memory_that_was_freed() -> None:
    first, second = gradients(2)
    table = make_table([first, second])
    assert table.fill([first, second])
    size = second.untyped_storage().nbytes()
    for left in (0, size - 4):
        second.untyped_storage().resize_(left)
        assert not table.fill([first, second])
        assert not table.fill([first, second])  # the first refusal is not taken for a look
    second.untyped_storage().resize_(size)
    assert table.fill([first, second])
    # the same layout elsewhere in a memory that is as large, and no longer large enough
    whole = torch.zeros(20)
    assert table.fill([first, whole.as_strided((3, 5), (5, 1), 5)])
    assert table.fill([first, whole.as_strided((3, 5), (5, 1), 0)])
    late = whole.as_strided((3, 5), (5, 1), 5)
    whole.untyped_storage().resize_(4 * 16)
    assert not table.fill([first, late])


@pytest.mark.skipif(LIBRARY is None, reason="asks the kernel")
@pytest.mark.parametrize("num", [3, FEW + 1])
@pytest.mark.parametrize(
    ("value", "is_ordinary"), [(2.0, True), (0.0, False), (math.nan, False), (math.inf, False)]
)
def test_what_is_not_ordinary_is_told(num: int, value: float, is_ordinary: bool) -> None:
    assert LIBRARY is not None
    backend, keys = NativeBackend(LIBRARY), tuple(range(num))
    given = gradients(num)
    backend.measure(given, given, keys, (), sample=False)
    given[1] = torch.full((3, 5), value)
    again = backend.measure_again(given, keys)
    assert again is not None
    values, was_ordinary = again
    assert was_ordinary is is_ordinary
    whole = backend.measure(given, given, keys, (), sample=False).values
    assert set(values) == set(whole)
    for name in values:
        np.testing.assert_array_equal(values[name], whole[name])


def test_measurements_are_stacked_alike_however_they_lie() -> None:
    places = {"grad_norm": 2, "zeros": 0}
    tables = [NumberTable(np.arange(12.0).reshape(3, 4) + 100 * i, places) for i in range(3)]
    expected = stacked([dict(table) for table in tables])
    mixed = stacked([tables[0], dict(tables[1]), tables[2]])
    for name, values in stacked(tables).items():
        assert values.shape == (3, 4)
        assert values.flags.c_contiguous
        np.testing.assert_array_equal(values, expected[name])
        np.testing.assert_array_equal(values, mixed[name])
    assert set(expected) == set(places) == set(stacked(tables[:1]))
    assert stacked(tables[:1])["zeros"].tolist() == [[0, 1, 2, 3]]


@pytest.mark.skipif(LIBRARY is None, reason="asks the kernel")
def test_a_torch_that_was_built_for_cuda_measures_on_the_cpu_as_quickly() -> None:
    assert LIBRARY is not None
    native = NativeBackend(LIBRARY)
    backend = DeviceDispatch(native, ReferenceBackend())
    given, keys = gradients(3), (0, 1, 2)
    assert backend.kernel is native
    for _ in range(2):  # the second time it is known how they lie
        backend.measure(given, given, keys, (), sample=True)
    found, expected = backend.measure_again(given, keys), native.measure_again(given, keys)
    assert found is not None
    assert expected is not None
    np.testing.assert_array_equal(found[0]["grad_norm"], expected[0]["grad_norm"])
    sampled = backend.sample_again(given, given, keys)
    assert (sampled is not None) == tensor_reads.has_extension()
    of_host = DeviceDispatch(ReferenceBackend(), native)
    assert of_host.measure_again(given, keys) is None
    assert of_host.sample_again(given, given, keys) is None
