"""What the extension does for the sampled step and that of the probe is what Python does, and where
something is not ordinary, nothing.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seismograd.capture.graph.loss_reduction import COUNTS_TARGETS, mean_of, reduction_of
from seismograd.capture.names.parameter_groups import num_parameters_below
from seismograd.capture.probes.pending_probe import PendingProbe
from seismograd.measure.native import tensor_reads
from seismograd.measure.native.library import DTYPE_CODES, NUMBERS, load
from seismograd.measure.native.native_backend import NativeBackend
from seismograd.measure.native.slice_copies import SliceCopies
from seismograd.tensors.saved_tensors import SHOWS_DATA

pytestmark = [
    pytest.mark.skipif(not tensor_reads.has_extension(), reason="it was not built"),
    pytest.mark.skipif(load() is None, reason="asks the kernel"),
]
KEYS = 0, 1, 2


class Odd(Tensor):
    pass


def copies() -> SliceCopies:
    library = load()
    assert library is not None
    return SliceCopies(library)


def with_gradients(*dtypes: torch.dtype) -> list[Tensor]:
    torch.manual_seed(0)
    held: list[Tensor] = []
    for number, dtype in enumerate(dtypes):
        held.append(nn.Parameter(torch.randn(30 * number + 7, 5, dtype=dtype)))
        held[-1].grad = torch.randn(30 * number + 7, 5, dtype=dtype)
        held[-1].grad[::3] = 0
    return held


def probed(
    held: list[Tensor], first: int, turn: int, num: int, room: int, by_extension: bool
) -> tuple[Any, ...]:
    """Return which slices were copied, where to go on, and what a step has done to them."""
    ours = copies()
    pending = PendingProbe(False, ours)
    ours.keep(pending.slices or [(torch.ones(10_000), None, 0, 10_000)])  # there is memory then
    if by_extension:
        found = ours.keep_next(held, first, turn, num, room)
        assert found is not None
        pending.slices, pending.dtypes = found[:2]
        following = found[2:]
    else:
        following = pending.add_some(held, first, turn, num, room)
        ours.keep(pending.slices)
    before = [each.detach().clone() for each in held]
    with torch.no_grad():
        for each in held:
            each[1:].mul_(1.125)
        held[0][2:4] = before[0][2:4]
    numbers = ours.compare_kept(pending.slices, pending.dtypes) if by_extension else None
    if numbers is None:
        numbers = ours.compare([(weight, None, *rest) for weight, _, *rest in pending.slices])
    for each, was in zip(held, before, strict=True):
        each.data.copy_(was)
    slices = [(id(a), id(b), start, count) for a, b, start, count in pending.slices]
    return slices, pending.dtypes, following, numbers.tobytes()


@pytest.mark.parametrize("room", [4, 13, 1000])
@pytest.mark.parametrize(("first", "num"), [(0, 1), (2, 3), (4, 2), (1, 99), (9, 2)])
def test_the_slices_of_a_probe_are_those_of_python(first: int, num: int, room: int) -> None:
    held = with_gradients(torch.float32, torch.float64, torch.float32, torch.float32, torch.float32)
    held[3].grad = None
    for turn in (0, 1, 5, 1234):
        ours = probed(held, first, turn, num, room, by_extension=True)
        with tensor_reads.without_extension():
            assert ours == probed(held, first, turn, num, room, by_extension=False)


def test_a_probe_of_16_bits_is_that_of_python() -> None:
    held = with_gradients(torch.bfloat16, torch.float16)
    ours = probed(held, 0, 3, 2, 9, by_extension=True)
    assert ours == probed(held, 0, 3, 2, 9, by_extension=False)
    assert set(ours[1]) == {torch.bfloat16, torch.float16}


def freed(tensor: Tensor) -> Tensor:
    tensor.untyped_storage().resize_(0)
    return tensor


@pytest.mark.parametrize(
    "odd",
    [
        lambda: torch.randn(4, 6).t(),
        lambda: torch.ones(6, 4, dtype=torch.int64),
        lambda: torch.randn(6, 4).as_subclass(Odd),
        lambda: torch.randn(6, 4, device="meta"),
        lambda: torch.randn(6, 4).to_sparse(),
        lambda: freed(torch.randn(6, 4)),
    ],
)
def test_what_the_kernel_cannot_probe_is_left_to_python(odd: Callable[[], Tensor]) -> None:
    held = with_gradients(torch.float32, torch.float32)
    ours = copies()
    assert ours.keep_next(held, 0, 0, 2, 9) is None  # without memory for it
    ours.keep([(torch.ones(100), None, 0, 100)])
    found = ours.keep_next(held, 0, 0, 2, 9)
    assert found is not None
    assert ours.keep_next(tuple(held), 0, 0, 2, 9) is None
    assert ours.keep_next([*held, odd()], 0, 0, 3, 9) is None
    slices, dtypes = found[:2]
    assert ours.compare_kept(slices, dtypes) is not None
    assert ours.compare_kept(slices, dtypes[:1]) is None
    assert ours.compare_kept(slices, [torch.float64, torch.float32]) is None
    assert ours.compare_kept([slices[0], (odd(), None, 0, 9)], dtypes) is None
    assert ours.compare_kept([slices[0], (torch.ones(8), None, 0, 9)], dtypes) is None


def backend() -> NativeBackend:
    library = load()
    assert library is not None
    return NativeBackend(library)


def sampled(gradients: list[Tensor], weights: list[Tensor], ours: NativeBackend) -> Any:
    measured = ours.measure(gradients, weights, KEYS, (), sample=True)
    return measured.values, measured.samples


@pytest.mark.parametrize("size", [32, 1 << 18])  # in less and in more than the interpreter is kept
@pytest.mark.parametrize("value", [2.0, 0.0, float("nan"), float("inf")])
def test_a_sample_is_that_of_python(size: int, value: float) -> None:
    torch.manual_seed(0)
    weights = [torch.randn(size // 16, 16) for _ in range(3)]
    backends = backend(), backend()
    dead: list[list[Any]] = [[], []]
    for step in range(5):
        gradients = [torch.randn(size // 16, 16) for _ in range(3)]
        gradients[1] = torch.full((size // 16, 16), value if step % 2 else 1.0)
        gradients[2][: size // 32] = 0
        found: Any = backends[0].sample_again(gradients, weights, KEYS) if step % 2 == 0 else None
        assert (found is not None) == (step in (2, 4))  # now it is known where they lie
        if found is None:
            found = *sampled(gradients, weights, backends[0]), None
        values, samples = sampled(gradients, weights, backends[1])
        assert {name: each.tobytes() for name, each in found[0].items()} == {
            name: each.tobytes() for name, each in values.items()
        }
        assert list(found[1]) == list(samples)
        for name, each in samples.items():
            assert found[1][name].tobytes() == each.tobytes(), name
        dead[0].append(found[1]["dead_rows"].tolist())
        dead[1].append(samples["dead_rows"].tolist())
        if step in (2, 4):
            assert found[2] is True
    assert dead[0] == dead[1]


def test_a_sample_of_what_lies_elsewhere_is_left_to_python() -> None:
    ours = backend()
    weights = [torch.randn(9, 4) for _ in range(3)]
    gradients = [torch.randn(9, 4) for _ in range(3)]
    for _ in range(2):
        ours.measure(gradients, weights, KEYS, (), sample=True)
    assert ours.sample_again(gradients, weights, KEYS) is not None
    odd: list[list[Tensor]] = [
        weights[:2],
        [*weights[:2], torch.randn(4, 9).t()],
        [*weights[:2], torch.randn(9, 4).as_subclass(Odd)],
        [*weights[:2], torch.randn(18, 4)[9:]],
    ]
    for each in odd:
        assert ours.sample_again(gradients, each, KEYS) is None
        assert ours.sample_again(each, weights, KEYS) is None
    assert ours.sample_again(gradients, weights, (0, 1, 2, 3)[:3]) is None  # not that very tuple
    # where it was refused, no row counts as looked at
    gradients[0].zero_()
    ours.measure(gradients, weights, KEYS, (), sample=False)
    assert ours.sample_again(gradients, odd[2], KEYS) is None
    found = ours.measure(gradients, weights, KEYS, (), sample=True)
    assert found.samples["dead_rows"].tolist() == [9, 0, 0]


def packed(loss: Callable[[], Tensor]) -> Tensor:
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x):
        return loss()


def losses() -> dict[str, Tensor]:
    x = torch.randn(6, 5, requires_grad=True)
    target, some = torch.tensor([0, 1, 2, 3, 4, 0]), torch.tensor([0, -100, 2, -100, 4, 0])
    weight = torch.rand(5)
    return {
        "cross entropy": F.cross_entropy(x * 2, target),
        "some targets": F.cross_entropy(x * 2, some),
        "none": F.cross_entropy(x * 2, torch.full((6,), -100)),
        "weighted": F.cross_entropy(x * 2, target, weight=weight),
        "of pictures": F.cross_entropy((x * 2)[..., None, None], target[:, None, None]),
        "packed": packed(lambda: F.cross_entropy(x * 2, target)),
        "squares": F.mse_loss(x * 2, torch.zeros(6, 5)),
        "binary": F.binary_cross_entropy_with_logits(x * 2, torch.zeros(6, 5)),
        "huber": F.huber_loss(x * 2, torch.zeros(6, 5)),
        "over a number": F.cross_entropy(x * 2, some) / 4,
        "times a number": F.mse_loss(x * 2, torch.zeros(6, 5)) * 0.3,
        "over a tensor": F.mse_loss(x * 2, torch.zeros(6, 5)) / torch.tensor(0.3),
        "over zero": F.mse_loss(x * 2, torch.zeros(6, 5)) / 0,
        "times NaN": F.mse_loss(x * 2, torch.zeros(6, 5)) * float("nan"),
    }


def numbers_of(loss: Tensor, way: Callable[[Any], Any]) -> tuple[Any, ...]:
    found = way(loss)
    assert found is not None
    parts = found.count, found.weight
    assert not any(part.pending() for part in parts)
    return *(np.float64(part.read()).tobytes() for part in parts), found.flags, found.shown


@pytest.mark.skipif(not SHOWS_DATA, reason="asks a torch that shows what is saved")
@pytest.mark.parametrize("name", losses())
def test_over_how_many_a_mean_is_is_what_python_says(name: str) -> None:
    loss = losses()[name]
    assert numbers_of(loss, mean_of) == numbers_of(loss, reduction_of)


def test_what_is_no_plain_mean_is_left_to_python() -> None:
    x = torch.randn(6, 5, requires_grad=True)
    target = torch.tensor([0, 1, 2, 3, 4, 0])
    over: Tensor = F.cross_entropy(x * 2, target)
    over.backward()  # has let go of what it saved
    odd: list[Any] = [
        F.cross_entropy(x * 2, target, reduction="sum"),
        F.cross_entropy(x * 2, target) * 2 * 3,
        2 * F.cross_entropy(x * 2, target, reduction="sum") / 6,
        F.cross_entropy(x * 2, target) / torch.ones(3),
        F.cross_entropy(x * 2, target) * torch.ones((), requires_grad=True),
        F.mse_loss(x, torch.zeros(6, 5)),  # of a leaf
        F.mse_loss(x * 2, torch.zeros(6, 5), reduction="none"),
        over,
        (x * 2).mean(),
        F.cross_entropy(x * 2, target).as_subclass(Odd),
        F.cross_entropy(x.detach(), target),
        3,
    ]
    for each in odd:
        assert mean_of(each) is None
    nonsense: list[Any] = [None, 3, "x", [None], object()]
    for each in nonsense:
        assert tensor_reads.mean_of_loss(each, COUNTS_TARGETS) is None
        assert tensor_reads.keep_slices(each) is None
        assert tensor_reads.keep_slices([each], 0, 0, 1, 1, DTYPE_CODES, 0, 0, 0) is None
        assert tensor_reads.compare_slices(each) is False
        assert tensor_reads.compare_slices([each], [each], DTYPE_CODES, 0, 0, each) is False
        assert tensor_reads.measure_sample(each) is False
        assert tensor_reads.num_parameters_below(each) == -1
        assert tensor_reads.event_entries(each) is None
        assert tensor_reads.step_entries(each, [], [], []) is None
        assert tensor_reads.event_entries([each]) is None
        assert tensor_reads.step_entries([each], [1.0], [1.0], []) is None


class OwnParameters(nn.Module):
    """Keeps what it holds in a way of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["_parameters"] = OrderedDict(self._parameters)
        self.weight = nn.Parameter(torch.ones(3))


def modules() -> dict[str, nn.Module]:
    shared = nn.Linear(3, 3)
    without = nn.Linear(3, 3, bias=False)
    without.register_module("none", None)
    around = nn.Sequential(shared, nn.Sequential(shared, without), nn.BatchNorm1d(3))
    around[0].add_module("above", around)  # a cycle
    return {
        "none": nn.ReLU(),
        "one": nn.Linear(2, 2),
        "shared": around,
        "many": nn.Sequential(*(nn.Linear(2, 2) for _ in range(300))),
        "attention": nn.MultiheadAttention(4, 2),
        "own": nn.Sequential(OwnParameters(), nn.Linear(2, 2)),
    }


@pytest.mark.parametrize("name", modules())
def test_the_parameters_of_modules_are_counted_as_by_python(name: str) -> None:
    module = modules()[name]
    with tensor_reads.without_extension():
        num = num_parameters_below(module)
    assert num_parameters_below(module) == num
    assert tensor_reads.num_parameters_below(module) == (-1 if name == "own" else num)
    before = sys.getrefcount(module)
    for _ in range(100):
        tensor_reads.num_parameters_below(module)
    assert sys.getrefcount(module) == before


def test_references_are_given_back() -> None:
    held = with_gradients(torch.float32, torch.float32, torch.float32)
    gradients: list[Any] = [each.grad for each in held]
    ours, measuring = copies(), backend()
    ours.keep([(torch.ones(1000), None, 0, 1000)])
    for _ in range(2):
        measuring.measure(gradients, held, KEYS, (), sample=True)
    loss = F.cross_entropy(held[0] * 2, torch.zeros(7, dtype=torch.int64))
    arrays = [np.empty((2, 3)), np.empty((len(NUMBERS), 3))]
    things: list[Any] = [*held, *gradients, held, gradients, DTYPE_CODES, torch.float32, loss]
    things += [loss.grad_fn, COUNTS_TARGETS, *arrays, Tensor, nn.Parameter, torch.strided]

    def counts() -> list[int]:
        return [sys.getrefcount(each) for each in things]

    before: list[int] = []
    for turn in range(2000):
        if turn == 1:  # what torch makes once is there
            before = counts()
        found = ours.keep_next(held, 0, 0, 3, 9)
        assert found is not None
        assert ours.compare_kept(found[0], found[1]) is not None
        assert ours.compare_kept(found[0], found[1][:2]) is None
        assert ours.keep_next(held, 0, 0, 3, 1 << 30) is not None
        assert ours.keep_next([*held, loss], 0, 0, 4, 9) is None
        assert measuring.sample_again(gradients, held, KEYS) is not None
        assert measuring.sample_again(gradients, gradients, KEYS) is None
        tensor_reads.compare_slices(found[0], found[1], DTYPE_CODES, 0, 0, arrays[1])
        assert mean_of(loss) is not None
        del found
    assert counts() == before
