"""The extension that asks tensors answers as Python does, "unexpected" for what is not ordinary, and
holds on to nothing.
"""

from __future__ import annotations

import gc
import math
import os
import sys
import weakref
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seismograd.capture.birth.held_calls import HeldCall
from seismograd.capture.birth.singular_operands import KEPT, MAX_OPERATIONS, LossOperands
from seismograd.capture.graph.loss_reduction import MAX_HOPS, shape_reduced
from seismograd.capture.graph.traversal import LEAF
from seismograd.capture.probes.weight_slice import WeightSlice, have_changed, keep_all
from seismograd.measure.native import tensor_reads, torch_shim
from seismograd.measure.native.library import DTYPE_CODES, ENTRY_WORDS, POINTER, load
from seismograd.measure.native.native_backend import NativeBackend
from seismograd.measure.native.native_table import make_table
from seismograd.measure.native.slice_copies import ITEM_SIZES, SliceCopies
from seismograd.measure.number_table import stacked
from seismograd.tensors.saved_tensors import SHOWS_DATA
from tests.measure.onlookers import onlookers

KEYS = tuple(range(8))
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


@pytest.fixture
def asked_by_python() -> Generator[None]:
    """The extension asks tensors through Python alone, as with a torch without these functions."""
    from seismograd.measure.native import _tensor_reads  # pyright: ignore

    _tensor_reads.use_torch(())  # pyright: ignore
    yield
    _tensor_reads.use_torch(torch_shim.addresses())  # pyright: ignore


def test_torch_has_functions_that_say_where_a_tensor_lies_and_nobody_sees_them_asked() -> None:
    with torch.device("meta"), onlookers() as seen:
        found = torch_shim.addresses()
        assert seen == []
    assert len(found) == len(torch_shim.NAMES)
    assert all(found)


@needs_extension
def test_no_object_is_left_for_the_storage_of_a_gradient() -> None:
    tensors = [torch.randn(8, 16) for _ in range(100)]
    table = make_table(tensors)
    assert table.fill(tensors)
    others = [torch.randn(8, 16) for _ in range(100)]
    gc.collect()
    before = sum(type(each) is torch.UntypedStorage for each in gc.get_objects())
    assert filled(table, others)
    assert sum(type(each) is torch.UntypedStorage for each in gc.get_objects()) == before


@needs_extension
@pytest.mark.usefixtures("asked_by_python")
def test_pointers_are_filled_in_with_a_torch_without_those_functions() -> None:
    test_pointers_are_filled_in_where_all_lie_as_they_did_and_else_none_is()


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
    expected = DTYPE_CODES[tensor.dtype] if SliceCopies.takes(tensor) else -1
    assert tensor_reads.number_of_dtype(tensor, DTYPE_CODES) == expected


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


def backend_of(tensors: list[Tensor]) -> NativeBackend:
    library = load()
    assert library is not None
    backend = NativeBackend(library)
    backend.measure(tensors, tensors, KEYS[: len(tensors)], (), sample=False)
    return backend


@needs_extension
@pytest.mark.skipif(load() is None, reason="asks the kernel")
@pytest.mark.parametrize("size", [16, 1 << 17])  # in less and in more than the interpreter is kept
@pytest.mark.parametrize("value", [2.0, 0.0, float("nan"), float("inf")])
def test_the_kernel_measures_for_the_extension_as_for_python(size: int, value: float) -> None:
    tensors = [torch.randn(size // 8, 8) for _ in range(3)]
    keys = KEYS[:3]
    backend = backend_of(tensors)
    backend._last.keys = keys  # pyright: ignore
    assert backend.measure_again(tensors, keys)  # now it is known where they lie
    tensors[1] = torch.full((size // 8, 8), value)
    by_extension = backend.measure_again(tensors, keys)
    with tensor_reads.without_extension():
        by_python = backend.measure_again(tensors, keys)
    assert by_extension is not None
    assert by_python is not None
    assert isinstance(by_extension[0].kept, bytes)  # pyright: ignore
    assert by_extension[1] is by_python[1] is (value == 2.0)
    together = stacked([by_extension[0]] * 2), stacked([by_extension[0], by_python[0]])
    for name, numbers in by_python[0].items():
        assert np.array_equal(by_extension[0][name], numbers, equal_nan=True)
        assert by_extension[0][name].flags.writeable
        for whole in together:
            assert whole[name].shape == (2, 3)
            assert np.array_equal(whole[name], np.stack([numbers] * 2), equal_nan=True)


class Owner:
    """As `HeldCalls` is for the extension."""

    def __init__(self) -> None:
        self.calls: list[HeldCall] = []
        self.is_paused = False


def entered(owner: Owner, model: nn.Module, args: tuple[Any, ...], **kwargs: Any) -> Any:
    models = {id(model): [weakref.ref(model), 9, True]}
    return tensor_reads.entered(models, owner, model, args, kwargs, HeldCall, 3)


@needs_extension
def test_a_call_is_held_where_all_is_plain_and_trains() -> None:
    model, owner = nn.Linear(3, 3), Owner()
    inputs = [torch.randn(3), torch.randn(2, 2).mul_(2)]
    held = entered(owner, model, tuple(inputs))
    assert isinstance(held, HeldCall)
    assert owner.calls == [held]
    assert [(id(each), version) for each, version in held.versions] == [
        (id(each), each._version) for each in inputs
    ]
    assert held.random is not None
    assert torch.equal(held.random, torch.default_generator.get_state())
    assert held.autocast in (None, (False, torch.get_autocast_dtype("cpu")))
    assert (held.model(), held.args, held.kwargs) == (model, tuple(inputs), {})
    assert (held.gradients, held.last, held.problem) == ({}, -1, "")
    with torch.autocast("cpu", torch.float16):
        assert entered(owner, model, ()).autocast == (True, torch.float16)
    odd: list[Any] = [inputs[0].as_subclass(Odd), torch.randn(3, device="meta"), [inputs[0]], 3]
    for each in odd:
        assert entered(owner, model, (inputs[0], each)) is False
    assert entered(owner, model, (), scale=3) is False
    for models in ({}, {id(model): [weakref.ref(owner), 9, True]}):
        assert tensor_reads.entered(models, owner, model, (), {}, HeldCall, 3) is None
    due = {id(model): [weakref.ref(model), 0, True]}
    assert tensor_reads.entered(due, owner, model, (), {}, HeldCall, 3) is False
    with torch.no_grad():
        assert entered(owner, model, tuple(inputs)) is None
    with onlookers() as seen:
        assert entered(owner, model, tuple(inputs)) is None
        assert seen == []
    assert len(owner.calls) == 2
    last = [entered(owner, model, ()) for _ in range(4)][-3:]
    assert all(one is other for one, other in zip(owner.calls, last, strict=True))
    owner.is_paused = True
    assert entered(owner, model, ()) is None


@needs_extension
def test_the_gradient_of_what_a_model_returned_is_kept() -> None:
    weight = torch.ones(3, requires_grad=True)
    model, owner, lender = nn.Linear(3, 3), Owner(), torch.empty(0)
    held = entered(owner, model, ())
    result = weight * 2
    assert tensor_reads.left(held, result, lender, 1000)
    assert held.last == result.grad_fn._sequence_nr()  # pyright: ignore
    assert lender._backward_hooks is result._backward_hooks is None
    (result * 5).sum().backward()
    assert held.gradients[0].tolist() == [5, 5, 5]
    held.last = -1
    second = torch.stack([weight, weight * 3]).unbind()[1]
    assert not tensor_reads.left(held, second, lender, 1000)
    assert tensor_reads.left(held, torch.ones(3), lender, 1000)
    assert not tensor_reads.left(held, weight * 2, lender, 11)
    for odd in ((weight * 2).as_subclass(Odd), (weight * 2,), None):
        assert not tensor_reads.left(held, odd, lender, 1000)
    assert held.last == -1
    (second * 7).sum().backward()
    assert held.gradients[0].tolist() == [5, 5, 5]


class NamedLike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        return grad_outputs[0]


def losses() -> list[Tensor]:
    x = torch.randn(4, 3, requires_grad=True)
    wide = sum((x * i).exp() if i == 30 else x * i for i in range(31))
    assert isinstance(wide, Tensor)
    return [
        nn.functional.cross_entropy(x * 2, torch.tensor([0, 1, 2, 0])),
        (x * 2).square().mean(),
        *((x * 2).abs().pow(each).mean() for each in (2, 1, 0, 0.5, -1, math.nan)),
        x.sum(),
        x.exp().sum() / 3,
        ((x * 2).sum() + x.sqrt().sum()).log(),
        NamedLike.apply(x * 2).mean(),  # pyright: ignore
        (2 + x.mean()) * 3,
        wide.mean(),
        torch.cat([x * i for i in range(99)]).mean(),
    ]


@needs_extension
@pytest.mark.parametrize("after", [-1, 0, 1])
def test_a_graph_is_searched_as_by_python(after: int) -> None:
    found: list[bool] = []
    for loss in losses():
        assert loss.grad_fn is not None
        number = after if after < 1 else loss.grad_fn._sequence_nr() - 1  # pyright: ignore
        by_extension, by_python = LossOperands(), LossOperands()
        by_extension.hold([loss.grad_fn], number)
        with tensor_reads.without_extension():
            by_python.hold([loss.grad_fn], number)
            shape = shape_reduced(loss)
        names = [[each.name for each in held] for held in by_python.losses]
        assert [[each.name for each in held] for held in by_extension.losses] == names
        known = tensor_reads.has_none([loss.grad_fn], number, LEAF, KEPT, MAX_OPERATIONS)
        assert not (known and names)
        found.append(known)
        assert shape_reduced(loss) == shape
        assert tensor_reads.shape_below(loss.grad_fn, MAX_HOPS) in (shape, None)
    assert any(found)
    assert not all(found) or after == 1
    assert tensor_reads.shape_below(losses()[0].grad_fn, MAX_HOPS) == (4, 3)


ODD = torch.tensor([0.1, 2.0, 0.3])
LOSSES_OF_RESULTS: dict[str, Callable[[Tensor], Tensor]] = {
    "cross entropy": lambda r: nn.functional.cross_entropy(r, torch.tensor([0, 1, 2, 0])),
    "weighted": lambda r: nn.functional.cross_entropy(r, torch.tensor([0, 1, 2, 0]), ODD),
    "smoothed": lambda r: nn.functional.cross_entropy(
        r, torch.tensor([0, 1, 2, 0]), label_smoothing=0.1
    ),
    "squared": lambda r: nn.functional.mse_loss(r, torch.ones(4, 3)),
    "mean": lambda r: r.mean(),
    "binary": lambda r: nn.functional.binary_cross_entropy_with_logits(r, torch.ones(4, 3)),
    "exponential": lambda r: r.exp().mean(),
    "logarithm": lambda r: nn.functional.log_softmax(r, 1).log(),
    "log of probabilities": lambda r: nn.functional.log_softmax(r, 1).mean(),
    "power": lambda r: r.pow(-1).mean(),
    "scaled": lambda r: nn.functional.cross_entropy(r, torch.tensor([0, 1, 2, 0])) / 4,
    "scaled twice": lambda r: nn.functional.mse_loss(r, torch.ones(4, 3)) * 0.5 / 4,
    "scaled thrice": lambda r: r.mean() * 0.5 / 4 * 3,
    "over a small number": lambda r: nn.functional.mse_loss(r, torch.ones(4, 3)) / 1e-4,
    "over a tensor": lambda r: r.mean() / torch.tensor(4.0),
    "over numbers": lambda r: (r / torch.ones(4, 3)).mean(),
    "over a number, not reduced": lambda r: (r / 4).mean(),
    "each scaled": lambda r: (
        nn.functional.cross_entropy(r, torch.tensor([0, 1, 2, 0]), reduction="none") / 4
    ),
    "over itself": lambda r: r.mean() / r.sum(),
    "times a parameter": lambda r: r.mean() * torch.ones(()).requires_grad_(),
    "part": lambda r: nn.functional.cross_entropy(r[:2], torch.tensor([0, 1])),
    "itself": lambda r: r,
    "with another": lambda r: nn.functional.mse_loss(r, torch.ones(4, 3).requires_grad_() * 2),
    "another first": lambda r: nn.functional.mse_loss(torch.ones(4, 3).requires_grad_() * 2, r),
    "with a leaf": lambda r: nn.functional.mse_loss(r, torch.ones(4, 3).requires_grad_()),
    "sum of two": lambda r: r.mean() + r.square().mean(),
    "twice": lambda r: nn.functional.mse_loss(r, r),
    "in place": lambda r: r.mul_(2).mean(),
    "in another shape": lambda r: r.t_().mean(),
}


@needs_extension
@pytest.mark.parametrize("case", LOSSES_OF_RESULTS)
@pytest.mark.parametrize("num_calls", [0, 1, 2])
@pytest.mark.parametrize("has_shim", [True, False])
def test_a_loss_is_compared_as_by_its_parts(
    case: str, num_calls: int, has_shim: bool, request: pytest.FixtureRequest
) -> None:
    if not has_shim:
        request.getfixturevalue("asked_by_python")
    owner, lender, x = Owner(), torch.empty(0), torch.randn(4, 5)
    results: list[Tensor] = []
    for model in [nn.Linear(5, 3) for _ in range(num_calls)] or [nn.Linear(5, 3)]:
        held = entered(owner, model, (x,))
        results.append(model(x))
        assert num_calls == 0 or tensor_reads.left(held, results[-1], lender, 1000)
    if num_calls == 0:
        owner.calls.clear()
    after = max((call.last for call in owner.calls), default=-1)
    for result in results[::-1]:
        loss = LOSSES_OF_RESULTS[case](result)
        top: Any = loss.grad_fn
        shape = tensor_reads.shape_below(top, MAX_HOPS)
        none = tensor_reads.has_none([top], after, LEAF, KEPT, MAX_OPERATIONS)
        asked = MAX_HOPS, LEAF, KEPT, MAX_OPERATIONS
        for known in ((4, 3), (3, 4), (4,), (), (2, 3)):
            found = tensor_reads.loss_as_before(loss, top, owner.calls, known, *asked)
            if shape != known:
                assert found == -1
            else:
                assert found == 2 * top._sequence_nr() + (0 if none else 1)


@needs_extension
@pytest.mark.skipif(not SHOWS_DATA, reason="reads a constant that torch shows")
@pytest.mark.parametrize("case", LOSSES_OF_RESULTS)
def test_the_shape_of_the_usual_loss_is_that_of_the_result(case: str) -> None:
    """Without a hop, so that only what was noted of the result can tell."""
    usual = "cross entropy", "squared", "mean", "binary", "scaled", "over a tensor"
    owner, x, model = Owner(), torch.randn(4, 5), nn.Linear(5, 3)
    held = entered(owner, model, (x,))
    result = model(x)
    assert tensor_reads.left(held, result, torch.empty(0), 1000)
    loss = LOSSES_OF_RESULTS[case](result)
    asked = loss.grad_fn, owner.calls, (4, 3), 0, LEAF, KEPT, MAX_OPERATIONS
    is_known = tensor_reads.loss_as_before(loss, *asked) != -1
    assert is_known or case not in usual
    assert not is_known or tuple(result.shape) == tensor_reads.shape_below(loss.grad_fn, MAX_HOPS)


@needs_extension
def test_what_is_held_lists_no_versions_where_its_arguments_are_gone() -> None:
    held = entered(Owner(), nn.Linear(3, 3), (torch.randn(3),))
    assert len(held.versions) == 1
    other = entered(Owner(), nn.Linear(3, 3), (torch.randn(3),))
    other.args = ()
    with pytest.raises(AttributeError):
        _ = other.versions
    other.versions = []
    assert other.versions == []


@needs_extension
def test_a_loss_is_the_number_that_python_reads() -> None:
    x = torch.randn(4, 5, requires_grad=True)
    for loss in (x.sum(), x.mean() * math.nan, x.detach()[1, 2], -x.abs().sum().exp() * math.inf):
        found = tensor_reads.number_of_loss(loss)
        assert found is not None
        assert found == loss.item() or (math.isnan(found) and math.isnan(loss.item()))
    odd: list[Any] = [x, x.sum().double(), x.sum().bfloat16(), torch.tensor(3), torch.ones(1)]
    odd += [torch.empty((), device="meta"), nn.Parameter(x.sum().detach()), None, 3.0]
    odd += [x.sum().as_subclass(Odd), torch.empty(()).untyped_storage(), x.sum().to("meta")]
    without = torch.ones(())
    without.untyped_storage().resize_(0)
    for each in (*odd, without):
        assert tensor_reads.number_of_loss(each) is None
    with tensor_reads.without_extension():
        assert tensor_reads.number_of_loss(x.sum()) is None


@pytest.mark.parametrize("exponent", [2, 1.0, 0, 0.5, -1, math.nan])
def test_of_powers_those_are_held_whose_derivative_may_be_infinite(exponent: float) -> None:
    x = torch.zeros(3, requires_grad=True)
    loss = (x * 1).pow(exponent).mean()
    operands = LossOperands()
    operands.hold([loss.grad_fn], -1)
    is_regular = exponent in (0, 1, 2)
    assert bool(operands.losses) is not is_regular
    known = tensor_reads.has_none([loss.grad_fn], -1, LEAF, KEPT, MAX_OPERATIONS)
    assert known is (is_regular and tensor_reads.has_extension())


@pytest.mark.parametrize("divisor", [4, -0.5, 0.0, 1e-9, math.inf, math.nan, torch.tensor(2.0)])
def test_of_quotients_those_are_held_whose_derivative_may_be_infinite(divisor: Any) -> None:
    x = torch.zeros(3, requires_grad=True)
    operands = LossOperands()
    top = ((x * 1).mean() / divisor).grad_fn
    operands.hold([top], -1)
    is_regular = 1e-3 <= abs(float(divisor)) < math.inf
    assert bool(operands.losses) is not is_regular
    known = tensor_reads.has_none([top], -1, LEAF, KEPT, MAX_OPERATIONS)
    # the extension reads no number that torch does not show
    assert known is (is_regular and tensor_reads.has_extension() and SHOWS_DATA)
    with tensor_reads.without_extension():
        operands.hold([((x * 1).mean() / divisor).grad_fn], -1)
    assert len(operands.losses) == (0 if is_regular else 2)
    operands.hold([((x * 1) / torch.ones(3)).mean().grad_fn], -1)
    assert len(operands.losses) == (1 if is_regular else 3)


def test_identities_are_those_of_python() -> None:
    objects: list[Any] = [*parameters(), None, 3]
    found = tensor_reads.identities(objects)
    assert np.frombuffer(found, np.uint64).tolist() == list(map(id, objects))
    assert tensor_reads.identities([]) == b""
    with tensor_reads.without_extension():
        assert found == tensor_reads.identities(objects)
        assert found != tensor_reads.identities(objects[:-1])


@needs_extension
@pytest.mark.skipif(load() is None, reason="asks the kernel")
def test_the_table_of_slices_is_that_of_python() -> None:
    library = load()
    assert library is not None
    weights = [
        torch.randn(50),
        nn.Parameter(torch.randn(7, 3, dtype=torch.float64)),
        torch.randn(11).bfloat16(),
    ]
    gradients = [torch.randn(50), torch.randn(7, 3), None]
    slices: list[Any] = [
        (weight, gradient, 2 * i, 5 + i)
        for i, (weight, gradient) in enumerate(zip(weights, gradients, strict=True))
    ]
    copies = SliceCopies(library)
    copies._address = 1 << 45  # pyright: ignore  # nothing is copied
    by_extension, num_bytes = copies._table(slices)  # pyright: ignore
    with tensor_reads.without_extension():
        by_python = copies._table(slices)  # pyright: ignore
    assert isinstance(by_extension, bytes)
    assert not isinstance(by_python[0], bytes)
    assert (by_extension, num_bytes) == (bytes(by_python[0]), by_python[1])
    odd: list[Any] = [
        [(torch.ones(3).as_subclass(Odd), None, 0, 1)],
        [(torch.ones(3, dtype=torch.int64), None, 0, 1)],
        [(weights[0], torch.ones(50, dtype=torch.int64), 0, 1)],
        [(weights[0], None, 0)],
        [None],
    ]
    for each in odd:
        assert tensor_reads.slice_table(each, DTYPE_CODES, ITEM_SIZES, 0) is None


def failing(*_: object) -> bool:
    raise ZeroDivisionError


@needs_extension
def test_nonsense_is_unexpected_and_nothing_is_raised() -> None:
    reads: Any = tensor_reads
    all_nonsense: list[Any] = [None, 3, "x", [None], [object()], {}]
    for nonsense in all_nonsense:
        assert reads.gradients(nonsense, [1]) is None
        assert reads.fill(failing, nonsense, 0, 0, 1) is False
        assert reads.number_of_dtype(nonsense, DTYPE_CODES) == -1
        assert reads.unchanged(nonsense) is False
        assert reads.keep(nonsense) is False
        assert reads.keeper({}, 0, 0)((nonsense,)) is None
        assert reads.keeper({}, 0, 0)(nonsense) is None
        assert reads.measure(nonsense) is None
        assert reads.slice_table(nonsense, DTYPE_CODES, ITEM_SIZES, 0) is None
        assert reads.of_kinds(nonsense, nonsense) is None
        assert reads.of_kinds([1], (nonsense,)) is None
        assert reads.entered(nonsense) is False
        assert reads.entered(*[nonsense] * 7) is False
        assert reads.entered({id(3): nonsense}, None, 3, (), {}, HeldCall, 3) is False
        assert reads.left(nonsense) is False
        assert (
            reads.left(nonsense, torch.ones(1, requires_grad=True) * 2, torch.ones(1), 9) is False
        )
        assert reads.left(nonsense, nonsense, nonsense, nonsense) is False
        assert reads.shape_below(nonsense, 3) is None
        assert reads.has_none(nonsense, 0, LEAF, KEPT, 5) is False
        assert reads.has_none([nonsense], 0, LEAF, KEPT, 5) is False
        assert reads.loss_as_before(nonsense) == -1
        assert reads.loss_as_before(*[nonsense] * 8) == -1
        loss = losses()[0]
        assert reads.loss_as_before(loss, loss.grad_fn, nonsense, (1,), 3, LEAF, KEPT, 5) == -1
        assert reads.number_of_loss(nonsense) is None
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
    loss = nn.functional.cross_entropy(held[0] * 2, torch.zeros(8, dtype=torch.int64))
    other = held[0].exp().sum()
    things += [loss.grad_fn, other.grad_fn, loss, other]
    backend = backend_of(gradients) if load() is not None else None  # pyright: ignore
    probed = [(weight, weight.grad, 0, 5) for weight in held]
    things += [probed, *probed, DTYPE_CODES, ITEM_SIZES]
    model, owner, lender = nn.Linear(3, 3), Owner(), torch.empty(0)
    hooked = torch.ones(16, requires_grad=True)
    things += [model, owner, lender, owner.calls, HeldCall, hooked]
    constants = None, False, True  # also held elsewhere now and then
    four = KEYS[:4]
    if backend is not None:
        backend._last.keys = four  # pyright: ignore

    def counts() -> list[int]:
        return [sys.getrefcount(each) for each in things]

    before, of_constants = counts(), [sys.getrefcount(each) for each in constants]
    for _ in range(2000):
        tensor_reads.marks(references)
        tensor_reads.gradients(held, ids)
        tensor_reads.gradients(held, ids[:1])
        filled(table, gradients)  # pyright: ignore
        filled(table, held)
        assert tensor_reads.unchanged(slices)
        assert tensor_reads.keep(slices)
        tensor_reads.number_of_dtype(held[0], DTYPE_CODES)
        tensor_reads.keeper(kept, 0, 0)((gradients[0],))  # pyright: ignore
        kept.clear()
        if backend is not None:
            assert backend.measure_again(gradients, four)  # pyright: ignore
        call = entered(owner, model, (gradients[0], gradients[1]))
        assert entered(owner, model, (gradients[0], None)) is False
        assert tensor_reads.left(call, gradients[0], lender, 1000)
        assert not tensor_reads.left(call, loss, lender, 0)
        assert tensor_reads.left(call, gradients[0] * hooked, lender, 1000)
        assert not tensor_reads.left(None, gradients[0] * hooked, lender, 1000)
        del call
        owner.calls.clear()
        for top in (loss.grad_fn, other.grad_fn):
            tensor_reads.shape_below(top, MAX_HOPS)
            tensor_reads.has_none([top], -1, LEAF, KEPT, MAX_OPERATIONS)
            for known in ((8, 16), (1, 2)):
                asked = known, MAX_HOPS, LEAF, KEPT, MAX_OPERATIONS
                tensor_reads.loss_as_before(loss, top, owner.calls, *asked)
        tensor_reads.number_of_loss(loss)
        tensor_reads.number_of_loss(held[0])
        del top
        tensor_reads.identities(gradients)
        tensor_reads.slice_table(probed, DTYPE_CODES, ITEM_SIZES, 0)
        tensor_reads.slice_table([*probed, None], DTYPE_CODES, ITEM_SIZES, 0)
        assert tensor_reads.of_kinds([*held, loss, slices], (nn.Module, list)) == [slices]
        assert (
            tensor_reads.of_kinds([loss, slices], (Tensor,)) is None
        )  # its class is of a metaclass
    assert counts() == before
    for each, count in zip(constants, of_constants, strict=True):
        assert abs(sys.getrefcount(each) - count) < 500
