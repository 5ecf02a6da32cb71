"""The extension that asks tensors answers as Python does, "unexpected" for what is not ordinary, and
holds on to nothing.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seismograd.capture.probes.weight_slice import WeightSlice, have_changed, keep_all
from seismograd.measure.native import tensor_reads
from seismograd.measure.native.library import ENTRY_WORDS, POINTER
from seismograd.measure.native.native_table import make_table
from seismograd.measure.native.slice_copies import NUMBERS, SliceCopies

needs_extension = pytest.mark.skipif(not tensor_reads.has_extension(), reason="it was not built")


@pytest.mark.skipif("CI" not in os.environ, reason="there may be no compiler here")
def test_the_extension_is_built_in_ci() -> None:
    assert tensor_reads.has_extension()


class Odd(Tensor):
    pass


def parameters() -> list[Tensor]:
    made: list[Tensor] = [nn.Parameter(torch.randn(8, 16)) for _ in range(4)]
    for each in made:
        each.grad = torch.randn(8, 16)
    return made


def freed() -> Tensor:
    tensor = torch.randn(8, 16)
    tensor.untyped_storage().resize_(0)
    return tensor


def test_marks_are_those_of_python() -> None:
    held = parameters()
    held[1].grad = None
    assert held[2].grad is not None
    held[2].grad.mul_(2)
    references = [weakref.ref(each) for each in held]
    del held[3]
    found = tensor_reads.marks(references)
    with tensor_reads.without_extension():
        assert found == tensor_reads.marks(references)
    assert found[1] is None
    assert found[3] is None


@needs_extension
def test_gradients_are_given_only_where_all_are_plain_and_of_the_same_parameters() -> None:
    held = parameters()
    ids = list(map(id, held))
    found = tensor_reads.gradients(held, ids)
    assert found is not None
    assert all(each is parameter.grad for each, parameter in zip(found, held, strict=True))
    assert tensor_reads.gradients([], []) == []
    assert tensor_reads.gradients(held[:3], ids) is None
    assert tensor_reads.gradients([held[1], held[0], *held[2:]], ids) is None
    held[1].grad = None
    assert tensor_reads.gradients(held, ids) is None
    odd = torch.randn(8, 16).as_subclass(Odd)
    held[1].grad = odd
    assert tensor_reads.gradients(held, ids) is None
    assert tensor_reads.gradients([odd], [id(odd)]) is None


def filled(table: Any, tensors: list[Tensor]) -> bool:
    at = table.known_at, table.entries_at, ENTRY_WORDS
    return tensor_reads.fill(table.is_still_so, tensors, *at)


@needs_extension
def test_pointers_are_filled_in_where_all_lie_as_they_did_and_else_none_is() -> None:
    tensors = [torch.randn(8, 16) for _ in range(3)]
    table = make_table(tensors)
    assert not filled(table, tensors)  # nothing is known of where they lie
    assert table.fill(tensors)
    others = [torch.randn(8, 16) for _ in range(3)]
    assert filled(table, others)
    assert table.entries[:, POINTER].tolist() == [each.data_ptr() for each in others]
    before = table.entries.copy()
    for odd in (
        torch.randn(8, 17),
        torch.randn(16, 8).t(),
        torch.randn(8, 16, dtype=torch.float64),
        torch.randn(16, 16)[8:],
        torch.randn(9, 16)[:8],  # of a larger storage
        freed(),
        torch.randn(8, 16).as_subclass(Odd),
    ):
        assert not filled(table, [others[0], tensors[1], odd])
        assert np.array_equal(table.entries, before)


def test_slices_are_kept_and_compared_as_by_python() -> None:
    weights = [nn.Parameter(torch.randn(8, 16)) for _ in range(3)]
    slices = [WeightSlice.of(each) for each in weights]
    assert not tensor_reads.keep(slices)  # where they are is not known yet
    keep_all(slices)
    kept = [each.kept for each in slices]
    assert tensor_reads.keep(slices) is tensor_reads.has_extension()
    assert [each.kept for each in slices] == kept
    assert tensor_reads.unchanged(slices) is tensor_reads.has_extension()
    with torch.no_grad():
        weights[1].add_(1)
    assert not tensor_reads.unchanged(slices)
    assert have_changed(slices)
    tensor_reads.keep(slices)
    keep_all(slices[1:]) if not tensor_reads.has_extension() else None
    assert slices[1].kept not in kept
    assert not have_changed(slices)
    weights[2].data = torch.zeros(8, 16)
    assert not tensor_reads.unchanged(slices)
    assert not tensor_reads.keep(slices)
    del weights[0]
    assert not tensor_reads.unchanged(slices)


@needs_extension
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.randn(3),
        lambda: nn.Parameter(torch.randn(3, 4, dtype=torch.bfloat16)),
        lambda: torch.randn(3, dtype=torch.float64)[1:],
        lambda: torch.zeros(0),
        lambda: torch.zeros(3, dtype=torch.int64),
        lambda: torch.randn(3, 4).t(),
        lambda: torch.randn(3, dtype=torch.complex64),
        lambda: torch.randn(3, dtype=torch.complex64).conj().imag,
        lambda: torch.randn(3).to_sparse(),
        lambda: torch.randn(3, device="meta"),
        lambda: torch.randn(3).as_subclass(Odd),
        freed,
    ],
)
def test_what_the_kernel_takes_is_what_python_says(make: Callable[[], Tensor]) -> None:
    tensor = make()
    expected = NUMBERS[tensor.dtype] if SliceCopies.takes(tensor) else -1
    assert tensor_reads.number_of_dtype(tensor, NUMBERS) == expected


@pytest.mark.parametrize("by_extension", [True, False])
def test_a_gradient_that_has_no_graph_is_kept(by_extension: bool) -> None:
    kept: dict[int, Tensor] = {}
    if by_extension:
        keep = tensor_reads.keeper(kept, 7, 1)
    else:
        with tensor_reads.without_extension():
            keep = tensor_reads.keeper(kept, 7, 1)
    plain, with_graph = torch.ones(2), torch.ones(2, requires_grad=True)
    for incoming in ((plain,), (plain, None), (plain, with_graph)):
        assert keep(incoming) is None  # pyright: ignore
    assert kept == {}
    assert keep((with_graph, plain)) is None  # pyright: ignore
    assert kept == {7: plain}


@needs_extension
def test_nonsense_is_unexpected_and_nothing_is_raised() -> None:
    reads: Any = tensor_reads
    for nonsense in (None, 3, "x", [None], [object()], {}):
        assert reads.gradients(nonsense, [1]) is None
        assert reads.fill(lambda *_: 1 / 0, nonsense, 0, 0, 1) is False
        assert reads.number_of_dtype(nonsense, NUMBERS) == -1
        assert reads.unchanged(nonsense) is False
        assert reads.keep(nonsense) is False
        assert reads.keeper({}, 0, 0)((nonsense,)) is None
        assert reads.keeper({}, 0, 0)(nonsense) is None
    with pytest.raises(TypeError):  # asks as Python does
        reads.marks([None])


@needs_extension
def test_references_are_given_back() -> None:
    held = parameters()
    gradients = [each.grad for each in held]
    ids, references = list(map(id, held)), [weakref.ref(each) for each in held]
    slices = [WeightSlice.of(each) for each in held]
    keep_all(slices)
    table = make_table(gradients)  # pyright: ignore
    assert table.fill(gradients)  # pyright: ignore
    kept: dict[int, Tensor] = {}
    things: list[Any] = [*held, *gradients, *slices, *(each.rows for each in slices), kept]
    things += [held, gradients, ids, references, slices, table.is_still_so, torch.float32]
    things += [torch.Size([8, 16]), Tensor, nn.Parameter, torch.strided]

    def counts() -> list[int]:
        return [sys.getrefcount(each) for each in things]

    before = counts()
    for _ in range(2000):
        tensor_reads.marks(references)
        tensor_reads.gradients(held, ids)
        tensor_reads.gradients(held, ids[:1])
        filled(table, gradients)  # pyright: ignore
        filled(table, held)
        assert tensor_reads.unchanged(slices)
        assert tensor_reads.keep(slices)
        tensor_reads.number_of_dtype(held[0], NUMBERS)
        tensor_reads.keeper(kept, 0, 0)((gradients[0],))  # pyright: ignore
        kept.clear()
    assert counts() == before
