"""What is held of a call the short way is what Python holds, the program sees nothing of it, and
where the short way would keep something else it is left.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seismograd.capture.birth import held_calls
from seismograd.capture.birth.held_calls import (
    CHECKED_EVERY,
    DUE,
    MAX_CALLS,
    NEVER,
    HeldCall,
    HeldCalls,
)
from seismograd.capture.birth.replay_mode import ReplayObstacleError
from seismograd.capture.birth.replay_state import as_it_was
from seismograd.measure.native import tensor_reads
from tests.measure.onlookers import onlookers

pytestmark = [
    pytest.mark.skipif(not tensor_reads.has_extension(), reason="it was not built"),
    pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True"),
]


class Net(nn.Module):
    def __init__(self, end: Callable[[Tensor], Any] = lambda h: h) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.end = nn.Linear(3, 4), end

    def forward(self, x: Tensor, scale: float = 1.0) -> Any:
        return self.end(self.inner(x) * scale)


@dataclass
class Record:
    scores: Tensor


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        return 2 * grad_outputs[0]


@contextmanager
def following(model: nn.Module, due: int = 0) -> Generator[HeldCalls]:
    calls = HeldCalls()
    calls.follow([model])
    calls._models[id(model)][DUE] = due  # pyright: ignore
    try:
        yield calls
    finally:
        calls.stop()


def backward(result: Any) -> None:
    (result[0] if isinstance(result, tuple) else result).square().sum().backward()


def twice(result: Any) -> None:
    result.sum().backward(retain_graph=True)
    (result * 3).sum().backward()


def penalized(result: Any) -> None:
    (slope,) = torch.autograd.grad(result.square().sum(), result, create_graph=True)
    (result.sum() + slope.square().sum()).backward()


def only_penalized(result: Any) -> None:
    result.square().sum().backward(create_graph=True)


def in_two_places(result: Any) -> None:
    (result.exp().sum() + (result[:1] * 5).sum()).backward()


CASES: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], None]]] = {
    "plain": (lambda h: h, backward),
    "tuple": (lambda h: (h, h.exp()), lambda r: (r[0].sum() + (2 * r[1]).sum()).backward()),
    "dict": (lambda h: {"a": h.exp()}, lambda r: backward(r["a"])),
    "record": (Record, lambda r: backward(r.scores)),
    "second of a node": (lambda h: h.unbind()[1], backward),
    "first of a node": (lambda h: h.unbind()[0], backward),
    "function": (Doubled.apply, backward),  # pyright: ignore
    "without a graph": (lambda h: h.detach(), lambda _: None),
    "dropout": (nn.Dropout(0.5), backward),
    "checkpoint": (lambda h: checkpoint(torch.exp, h, use_reentrant=False), backward),
    "large": (lambda h: h.repeat(300, 1), backward),
    "not used": (lambda h: h, lambda _: None),
    "used twice": (lambda h: h, in_two_places),
    "two backwards": (lambda h: h, twice),
    "penalty": (lambda h: h, penalized),
    "with graph": (lambda h: h, only_penalized),
    "view": (lambda h: h.t()[1:], backward),
    "in place": (lambda h: h, lambda r: backward(r.mul_(2))),
}


def held_of(
    case: str, by_python: bool, around: Callable[[], Any] = nullcontext, **kwargs: float
) -> tuple[list[HeldCall], list[Any], list[Any]]:
    """What is held of a call, as what can be compared; and what the program sees."""
    end, use = CASES[case]
    model, x = Net(end), torch.linspace(-1, 1, 6).reshape(2, 3).mul_(1)
    with following(model, 0 if by_python else 5) as calls:
        way = tensor_reads.without_extension if by_python else nullcontext
        state = torch.default_generator.get_state()
        begin = torch._C._autograd._get_sequence_nr()  # pyright: ignore
        with way(), around():
            result = model(x, **kwargs)
        outputs = [result] if isinstance(result, Tensor) else []
        assert all(each._backward_hooks is None for each in outputs)
        assert calls._lender._backward_hooks is None  # pyright: ignore
        if torch.is_tensor(result) and not result.requires_grad:
            use = CASES["not used"][1]
        with way():
            use(result)
        described: list[Any] = []
        for call in calls.calls:
            assert call.model() is model
            assert call.args[0] is x is call.versions[0][0]
            if call.random is not None:
                assert torch.equal(call.random, state)
            enabled, dtype = call.autocast or (False, torch.get_autocast_dtype("cpu"))
            last = call.last if call.last < 0 else call.last - begin
            versions = [version for _, version in call.versions]
            described.append([call.kwargs, enabled, dtype, last, versions, call.problem])
            described.append({n: gradient.tolist() for n, gradient in call.gradients.items()})
        gradients = [p.grad if p.grad is None else p.grad.tolist() for p in model.parameters()]
        return list(calls.calls), described, gradients


@pytest.mark.parametrize("case", CASES)
def test_the_short_way_holds_what_python_holds(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_calls, "MAX_BYTES", 5000)
    torch.manual_seed(1)
    by_python, short = (held_of(case, by_python=True), held_of(case, by_python=False))
    if case == "dropout":  # of other numbers
        assert by_python[1][0] == short[1][0]
        assert [list(each[1][1]) for each in (by_python, short)] == [[0], [0]]
    else:
        assert by_python[1:] == short[1:]
    assert len(short[0]) == 1


def autocast() -> Any:
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode, onlookers, autocast])
def test_modes_are_seen_as_by_python(around: Callable[[], Any]) -> None:
    by_python, short = (held_of("plain", each, around) for each in (True, False))
    assert by_python[1:] == short[1:]
    assert len(short[0]) == (around is autocast)


def test_keywords_are_held() -> None:
    by_python, short = (held_of("plain", each, scale=2.0) for each in (True, False))
    assert by_python[1:] == short[1:]
    assert short[0][0].kwargs == {"scale": 2.0}


def train(model: nn.Module, calls: HeldCalls, use: Callable[[Any], None] = backward) -> HeldCall:
    """Make a step, and return what is held before it ends."""
    use(model(torch.randn(2, 3)))
    call = calls.calls[-1]
    calls.drop(model.parameters())
    assert calls.calls == []
    return call


def test_a_model_is_checked_at_first_and_then_every_so_many_calls() -> None:
    model = Net()
    with following(model) as calls:
        followed = calls._models[id(model)]  # pyright: ignore
        assert train(model, calls).random is not None
        assert followed[DUE:] == [CHECKED_EVERY, False]
        for i in range(1, CHECKED_EVERY + 1):
            call = train(model, calls)
            assert call.random is None
            assert list(call.gradients) == [0]
            assert followed[DUE] == CHECKED_EVERY - i
        assert train(model, calls).random is not None
        assert followed[DUE] == CHECKED_EVERY


def test_the_state_of_the_generator_is_held_where_numbers_are_drawn() -> None:
    model = Net(nn.Dropout(0.5))
    with following(model) as calls:
        model.eval()
        for _ in range(3):
            call = train(model, calls)
        assert call.random is None
        with pytest.raises(ReplayObstacleError), as_it_was(model, call):
            torch.rand(1)
        before = torch.default_generator.get_state()
        with as_it_was(model, call):
            pass
        assert torch.equal(torch.default_generator.get_state(), before)
        model.train()
        for _ in range(CHECKED_EVERY + 3):
            before = torch.default_generator.get_state()
            model(torch.ones(2, 3)).sum().backward()
            call = calls.calls[-1]
            calls.drop(model.parameters())
        assert call.random is not None
        assert calls._models[id(model)][DUE] > 0  # pyright: ignore  # it was the short way
        assert torch.equal(call.random, before)


def test_autocast_that_came_on_is_not_taken_for_that_of_the_call() -> None:
    model = Net()
    with following(model, 5) as calls:
        call = train(model, calls)
        if call.autocast is not None:
            pytest.skip("this torch does not say whether it is on for any device")
        with as_it_was(model, call):
            assert not torch.is_autocast_enabled("cpu")
        with autocast(), pytest.raises(ReplayObstacleError), as_it_was(model, call):
            pass


HOOKS: dict[str, tuple[Callable[[Tensor], Tensor | None], bool]] = {
    "replaces": (lambda g: g * 3, False),
    "returns the same": (lambda g: g, True),
    "looks": (lambda _: None, True),
    "changes in place": (lambda g: g.mul_(3), True),
}


@pytest.mark.parametrize("hook", HOOKS)
def test_what_a_hook_of_the_program_makes_of_a_gradient_is_held(hook: str) -> None:
    function, is_short = HOOKS[hook]
    model, seen = Net(), list[Tensor]()

    def use(result: Tensor) -> None:
        result.register_hook(function)
        result.grad_fn.register_prehook(seen.extend)  # type: ignore[union-attr]
        result.square().sum().backward()

    with following(model) as calls:
        for _ in range(3):
            call = train(model, calls, use)
            assert call.gradients[0] is seen.pop()
        assert (calls._models[id(model)][DUE] > 0) is is_short  # pyright: ignore


def test_a_hook_that_comes_later_is_found() -> None:
    model = Net()
    with following(model) as calls:
        train(model, calls)

        def use(result: Tensor) -> None:
            result.register_hook(lambda gradient: gradient * 3)
            result.sum().backward()

        values = [float(train(model, calls, use).gradients[0][0, 0]) for _ in range(50)]
        assert values == [1] * CHECKED_EVERY + [3] * (50 - CHECKED_EVERY)
        assert calls._models[id(model)][DUE] == NEVER  # pyright: ignore


@pytest.mark.parametrize("due", [0, 5])
@pytest.mark.parametrize("use", [backward, twice, penalized, only_penalized, lambda _: None])
def test_nothing_is_kept_and_no_ring_is_made(due: int, use: Callable[[Any], None]) -> None:
    model = Net()
    gc.collect()
    gc.disable()
    try:
        with following(model, due) as calls:
            x = torch.randn(2, 3)
            result = model(x)
            use(result)
            call = calls.calls[-1]
            things: list[Any] = [x, result, *call.gradients.values()]
            references = [weakref.ref(each) for each in things]
            node = weakref.ref(graph_holder(result))
            if use is only_penalized:  # the gradients have the graph
                model.zero_grad()
            calls.drop(model.parameters())
            del x, result, call, things
            assert node() is None
            assert [each() for each in references] == [None] * len(references)
    finally:
        gc.enable()


def graph_holder(result: Tensor) -> Any:
    """Something that lives as long as the graph below a tensor."""

    class Hook:
        def __call__(self, *_: Any) -> None:
            pass

    hook = Hook()
    if result.grad_fn is not None:
        result.grad_fn.register_prehook(hook)
    return hook


def test_only_the_latest_calls_are_held() -> None:
    model = Net()
    with following(model, 100) as calls:
        for i in range(MAX_CALLS + 3):
            model(torch.full((2, 3), float(i)))
        firsts = [float(call.args[0][0, 0]) for call in calls.calls]
        assert firsts == [float(i) for i in range(3, MAX_CALLS + 3)]
        calls.is_paused = True
        model(torch.zeros(2, 3))
        assert len(calls.calls) == MAX_CALLS
        calls.is_paused = False
        other = Net()  # of the same class, and not followed
        other(torch.zeros(2, 3))
        assert len(calls.calls) == MAX_CALLS


@pytest.mark.parametrize("case", ["tuple", "dict", "second of a node", "without a graph"])
def test_calls_are_held_quickly_whatever_is_returned(case: str) -> None:
    end, use = CASES[case]
    model = Net(end)
    with following(model) as calls:
        train(model, calls, use)
        call = train(model, calls, use)
        assert call.random is None
        assert len(call.gradients) == {"tuple": 2, "without a graph": 0}.get(case, 1)


def test_a_call_within_a_backward_is_not_held() -> None:
    model = Net()
    with following(model, 100) as calls:
        x = torch.ones(2, 3, requires_grad=True)
        (checkpoint(model, x, use_reentrant=True)).sum().backward()  # type: ignore[union-attr]
        assert calls.calls == []
