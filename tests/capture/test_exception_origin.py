"""What the program raises while our code runs goes on; what is ours stays here."""

from __future__ import annotations

import ctypes
import gc
import inspect
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
import torch
from torch import nn

from seismograd.capture.events import EventHub, Listener
from seismograd.capture.hub import HUB
from seismograd.capture.loop.error_guard import ErrorGuard
from seismograd.capture.names.discovery import DiscoveredObjects
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.probes.overwritten_weights import OverwrittenWeights
from seismograd.measure.backend_selection import make_backend
from seismograd.schema import Note, RowBatch
from tests.capture.sessions import make_session
from tests.single_rows import single_rows

OWN = "/seismograd/"
NOTHING = DiscoveredObjects()
AT_THE_DOOR = frozenset(
    {
        "backward",
        "dispatch",
        "clip",
        "zero_grad",
        "before",
        "after",
        "step_begins",
        "step_ends",
        "_closure",
        "_listed",
    }
)


def is_at_the_door(frame: FrameType) -> bool:
    """Whether nothing guards the function yet: a patch, or the hub before it hands an event on."""
    code = frame.f_code
    in_hub = code.co_filename.endswith("capture/events.py") and code.co_name != "_keeps"
    return in_hub or code.co_name in AT_THE_DOOR


class PreemptedError(Exception):
    """The program's own."""


class Trained:
    """A loop under a session, and what the session hands on."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.batches: list[RowBatch] = []
        self.notes: list[Note] = []
        self.model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-2)
        self.session = make_session(
            make_backend(), self.batches.append, self.notes.append, [self.model], [self.optimizer]
        )
        self._inputs = torch.randn(4, 8)
        self.last: tuple[float, float] = (0.0, 0.0)  # the last step's loss and norm

    def step(self) -> None:
        self.optimizer.zero_grad()
        loss = self.model(self._inputs).square().mean()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.last = loss.item(), norm.item()

    def weights(self) -> list[torch.Tensor]:
        return [p.detach().clone() for p in self.model.parameters()]


@contextmanager
def trained() -> Generator[Trained]:
    loop = Trained()
    HUB.attach(loop.session)
    try:
        for _ in range(3):
            loop.step()
        yield loop
    finally:
        HUB.detach(loop.session)
        loop.session.finish()


@contextmanager
def at_call(
    number: int, then: Callable[[], None], inside_only: bool = False
) -> Generator[list[str]]:
    """Inside, `then` is called when a function of ours is called for the `number`-th time; gives
    the names of those called.
    """
    called: list[str] = []

    def profile(frame: FrameType, event: str, _: object) -> None:
        if (
            event != "call"
            or OWN not in frame.f_code.co_filename
            or (inside_only and is_at_the_door(frame))
        ):
            return
        # also called when one is thrown away, where Python itself loses exceptions
        if frame.f_code.co_flags & inspect.CO_GENERATOR:
            return
        called.append(frame.f_code.co_name)
        del frame, _  # else it could be seen that this function interrupts
        if len(called) == number:
            then()

    sys.setprofile(profile)
    try:
        yield called
    finally:
        sys.setprofile(None)


def num_calls_of_a_step(inside_only: bool = False) -> int:
    with trained() as loop, at_call(-1, lambda: None, inside_only) as called:
        loop.step()
    return len(called)


def assert_records_on(loop: Trained, num_before: int) -> None:
    """Later steps are recorded whole: loss, norm, numbers that grow; nothing is left out and
    nothing wrong is said of them.
    """
    own: list[tuple[float, float]] = []
    for _ in range(3):
        loop.step()
        own.append(loop.last)
    HUB.detach(loop.session)
    loop.session.finish()
    assert loop.session.guard.failures == {}, loop.notes
    rows = [row for batch in loop.batches for row in single_rows(batch)]
    assert len(rows) >= num_before + 3, [int(row.step["iteration"]) for row in rows]
    numbers = [int(row.step["iteration"]) for row in rows]
    assert numbers == sorted(set(numbers))
    # a long training can end with a loss of exactly 0, so compare with the loop's own numbers
    for row, (loss, norm) in zip(rows[-2:], own[-2:], strict=True):
        assert float(row.step["loss"]) == pytest.approx(loss)
        assert float(row.step["grad_norm"]) == pytest.approx(norm, rel=1e-5)
        assert int(row.step["num_backwards"]) == 1


def test_a_handler_that_raises_at_any_call_of_ours_is_heard_by_the_program() -> None:
    def handler(*_: object) -> None:
        raise PreemptedError

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        for number in range(1, num_calls_of_a_step() + 1, 5):
            with trained() as loop:
                with (
                    pytest.raises(PreemptedError),
                    at_call(number, lambda: signal.raise_signal(signal.SIGUSR1)),
                ):
                    loop.step()
                assert_records_on(loop, 3)
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize(
    "kind",
    [
        PreemptedError,
        pytest.param(TimeoutError, marks=pytest.mark.extended),
        pytest.param(KeyboardInterrupt, marks=pytest.mark.extended),
    ],
)
def test_what_is_thrown_into_our_code_from_a_thread_is_heard_by_the_program(
    kind: type[BaseException],
) -> None:
    here = ctypes.c_ulong(threading.get_ident())

    def throw() -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(here, ctypes.py_object(kind))

    for number in range(1, num_calls_of_a_step() + 1, 9):
        with trained() as loop:
            with pytest.raises(kind), at_call(number, throw):
                loop.step()
            assert_records_on(loop, 3)


@pytest.mark.parametrize(
    "kind",
    [
        MemoryError,
        pytest.param(RecursionError, marks=pytest.mark.extended),
        pytest.param(OSError, marks=pytest.mark.extended),
        pytest.param(KeyError, marks=pytest.mark.extended),
    ],
)
def test_a_failure_of_ours_at_any_call_behind_the_door_stays_here(kind: type[Exception]) -> None:
    def fail() -> None:
        raise kind("ours")

    with trained() as loop:
        loop.step()
        expected = loop.weights()
    for number in range(1, num_calls_of_a_step(inside_only=True) + 1, 11):
        with trained() as loop:
            with at_call(number, fail, inside_only=True) as called:
                loop.step()
            # torch says by a RuntimeError, which that is, that it has no memory
            if len(called) >= number and kind is not RecursionError:
                assert loop.session.guard.failures
            assert all(torch.equal(a, b) for a, b in zip(expected, loop.weights(), strict=True))


def test_no_signal_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    # Python itself loses what is raised in callbacks of weak references and of the garbage
    # collector, as torch and hypothesis have them.
    by_python: list[str] = []
    monkeypatch.setattr(
        sys,
        "unraisablehook",
        lambda each: by_python.append(str(getattr(each.object, "__module__", ""))),
    )

    def handler(*_: object) -> None:
        raise PreemptedError

    before = signal.signal(signal.SIGALRM, handler)
    num_lost = 0
    try:
        with trained() as loop:
            for number in range(200):
                end_s = time.perf_counter() + 2
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.0004 + 0.00001 * (number % 97))
                    while time.perf_counter() < end_s:
                        loop.step()
                    num_lost += 1
                except PreemptedError:
                    # torch's own `no_grad` leaves it off, also without us, where it is interrupted
                    torch.set_grad_enabled(True)
            assert_records_on(loop, 3)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert num_lost <= len(by_python)
    assert not any(name.startswith("seismograd") for name in by_python)


def test_nothing_of_ours_runs_where_an_object_of_the_programs_dies() -> None:
    """Python loses what a signal handler raises in the callback of a weak reference."""
    with trained() as loop:
        loop.session._registry.learn(loop.session._registry.windows[0])
        gc.collect()  # what earlier tests have left closes files of ours
        with at_call(-1, lambda: None) as called:
            del loop.model, loop.optimizer
            gc.collect()
        assert called == []
        registry = loop.session._registry
        assert len(registry.died) == 1
        assert len(registry.parameter_table.died) == 4
        assert registry.windows == ()
        assert registry.parameter_table.num_gone == 4


def test_a_tensor_that_is_given_the_address_of_a_dead_one_is_another() -> None:
    table = ParameterTable()

    def learn(tensor: torch.Tensor, name: str) -> int:
        table.learn([(0, "optimizer", [{"params": [tensor], "param_names": [name]}])], NOTHING)
        return table.column(tensor)

    tensors = [nn.Parameter(torch.zeros(2)) for _ in range(100)]
    assert [learn(each, f"first.{i}") for i, each in enumerate(tensors)] == [*range(100)]
    addresses = {id(each) for each in tensors}
    del tensors
    made = [nn.Parameter(torch.zeros(2)) for _ in range(100)]
    tensor = next(each for each in made if id(each) in addresses)
    assert tensor not in table
    assert learn(tensor, "second") == 100


def test_the_steps_of_a_program_that_goes_on_are_counted_as_it_made_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def handler(*_: object) -> None:
        raise PreemptedError

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with trained() as loop:

            def interrupted(*_: Any) -> None:
                signal.raise_signal(signal.SIGUSR1)

            # what comes last when a step begins, on the short way, too
            monkeypatch.setattr(OverwrittenWeights, "step_begins", interrupted)
            with pytest.raises(PreemptedError):
                loop.step()
            monkeypatch.undo()
            loop.step()
            HUB.detach(loop.session)
            loop.session.finish()
            numbers = [number for batch in loop.batches for number in batch.steps["iteration"]]
            assert numbers == [0, 1, 2, 3]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_the_guard_keeps_a_failure_and_not_what_a_handler_raises() -> None:
    def handler(*_: object) -> None:
        raise ValueError("the program's")

    def fails() -> None:
        raise ValueError("ours")

    told: list[str] = []
    guard = ErrorGuard(lambda part, _: told.append(part))
    assert guard.call("a", fails) is None
    assert told == ["a"]
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(ValueError, match="the program's"):
            guard.call("b", signal.raise_signal, signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert told == ["a"]


class KnowsLittle(torch.Tensor):
    """A tensor subclass with the operations that its own training needs, and no others."""

    inner: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> KnowsLittle:
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func: Any, _: object, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if name not in ("aten::detach", "aten::add_"):
            raise NotImplementedError(name)
        out = func(
            *(each.inner if isinstance(each, KnowsLittle) else each for each in args),
            **(kwargs or {}),
        )
        return args[0] if name == "aten::add_" else KnowsLittle(out)


def test_what_a_tensor_of_the_programs_raises_as_we_look_does_not_stop_the_training() -> None:
    with trained() as loop:
        weight = nn.Parameter(KnowsLittle(torch.zeros(3, 3)))
        loop.optimizer = torch.optim.SGD([*loop.model.parameters(), weight], 1.0, foreach=False)
        for _ in range(3):
            weight.grad = KnowsLittle(torch.ones(3, 3))
            loop.model(loop._inputs).square().mean().backward()
            loop.optimizer.step()
        assert torch.equal(weight.inner, torch.full((3, 3), -3.0))


def test_a_failure_of_a_listener_itself_is_told_and_kept() -> None:
    class Broken(Listener):
        def __init__(self) -> None:
            self.told: list[tuple[str, BaseException]] = []

        def step_begins(self, optimizer: object, closure: bool, compiled: bool) -> None:
            raise OSError(optimizer)

        def failed(self, event: str, error: BaseException) -> None:
            self.told.append((event, error))

        def broken_off(self, event: str, *args: object) -> None:
            raise AssertionError(event)

    hub, broken = EventHub(), Broken()
    hub.attach(broken)
    try:
        hub.step_begins(None, False, False)
    finally:
        hub.detach(broken)
    assert [event for event, _ in broken.told] == ["step_begins"]
