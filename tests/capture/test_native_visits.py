"""The visits of a steady step in C: with the record of the full way, byte for byte, whatever
happens between two of them, and only where nobody else is in the middle of one.
"""

from __future__ import annotations

import gc
import signal
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
import torch
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from seismograd.capture.hub import HUB
from seismograd.capture.rows import sketch_schedule
from seismograd.capture.session import Session
from seismograd.capture.steady import extension
from seismograd.capture.xray.xray import XraySchedule
from seismograd.measure.backend_selection import has_kernel, make_backend
from seismograd.measure.native import tensor_reads
from seismograd.schema import SampleKind
from tests.capture.test_exception_origin import PreemptedError, at_call
from tests.capture.test_short_ways import (
    ODDITIES,
    WHERE,
    Training,
    UnusualError,
    bits,
    recorded,
)
from tests.capture.whole_record import WholeRecord

pytestmark = pytest.mark.skipif(
    not (has_kernel() and tensor_reads.has_extension() and extension.has_extension()),
    reason="for the extensions",
)
# what is looked at in the first steps is over
BEGIN, NUM_STEPS = 102, 150


class LongTraining(Training):
    """A training in which something unusual happens in some of its later steps."""

    def train(self, oddities: list[tuple[int, str, str]]) -> list[Tensor]:
        for step in range(NUM_STEPS):
            odd = {where: what for number, where, what in oddities if number == step}
            self.step(odd, clips=step % 16 >= 9)
        return [p.detach().clone() for p in self.model.parameters()]


class DeadTraining(LongTraining):
    """Nothing reaches its first layer, whose gradients are zeros; its weights are large enough for
    some of them to be compared from step to step.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 40), nn.Linear(40, 3))
        with torch.no_grad():
            self.model[0].bias.fill_(-1e3)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 1e-2)


class AccumulatingTraining(LongTraining):
    """Each step is on the sum of four batches."""

    def step(self, odd: dict[str, str], clips: bool = False) -> None:
        try:
            self.at(odd.get("begin"))
            self.optimizer.zero_grad()
            for number in range(4):
                if number == 2:
                    self.at(odd.get("cleared"))
                (self.loss() / 4).backward()
            self.update(odd, clips)
        except UnusualError:
            self.optimizer.zero_grad()


class SharingTraining(LongTraining):
    """Each step is on losses of one forward pass at one line, every third step on two lines."""

    num_steps = 0

    def step(self, odd: dict[str, str], clips: bool = False) -> None:
        self.num_steps += 1
        try:
            self.at(odd.get("begin"))
            self.optimizer.zero_grad()
            predicted = self.model(torch.randn(8, 6))
            if self.num_steps % 3 == 0:
                predicted.square().mean().backward(retain_graph=True)
            for factor in (0.1, 2.0):
                self.at(odd.pop("cleared", None))
                target = torch.randint(0, 3, (8,))
                (nn.functional.cross_entropy(predicted, target) * factor).backward(
                    retain_graph=True
                )
            self.update(odd, clips)
        except (UnusualError, RuntimeError):  # of a graph whose weights a step has changed
            self.optimizer.zero_grad()


class ChangingTraining(AccumulatingTraining):
    """The size of the batches, and how many there are, changes."""

    num_steps = 0

    def step(self, odd: dict[str, str], clips: bool = False) -> None:
        self.num_steps += 1
        try:
            self.optimizer.zero_grad()
            for number in range(1 + self.num_steps // 7 % 4):
                self.at(odd.pop("cleared", None))
                size = 5 if self.num_steps % 11 == number else 8
                predicted = self.model(torch.randn(size, 6))
                loss = nn.functional.mse_loss(predicted, torch.randn(size, 3))
                (loss * (0.25 if self.num_steps % 5 else 0.5)).backward()
            self.update(odd, clips)
        except UnusualError:
            self.optimizer.zero_grad()


OF_SEVERAL = [AccumulatingTraining, SharingTraining, ChangingTraining]


def outcome_of(
    listed: list[tuple[int, str, str]], short: bool, kind: type[LongTraining] = LongTraining
) -> tuple[list[str], list[Tensor]]:
    training = kind()
    return recorded(
        lambda: training.train(listed), short, models=[training.model], max_batch_rows=64
    )


SHORT_WAYS = {
    "ClearingVisit.zero_grad_ends",
    "BackwardVisit.backward_begins",
    "BackwardVisit.backward_ends",
    "ClipVisit.clip_begins",
    "ClipVisit.clip_ends",
    "StepVisit.step_begins",
    "StepVisit.step_ends",
}


def python_visits(training: LongTraining, num_steps: int) -> Counter[str]:
    """How many visits of these steps Python makes."""
    visits: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_qualname in SHORT_WAYS:
            visits[frame.f_code.co_qualname] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        for _ in range(num_steps):
            training.step({}, clips=True)
    finally:
        sys.setprofile(before)
    return visits


oddities = st.lists(
    st.tuples(
        st.integers(BEGIN, NUM_STEPS - 2), st.sampled_from(WHERE), st.sampled_from(sorted(ODDITIES))
    ),
    max_size=6,
)


# all of them, seven in each training, with steady steps in between
NAMES = sorted(ODDITIES)
EACH = [
    [(104 + 6 * k, WHERE[(k + first) % len(WHERE)], name) for k, name in enumerate(NAMES[first::4])]
    for first in range(4)
]


# in steps with samples, which are taken only once; those of every second are clipped
IN_SAMPLED = [
    [
        (110, "ready", first),
        (120, "ready", second),
        (130, "begin", third),
        (140, "ready", first),
    ]
    for first, second, third in (
        ("not_finite", "not_finite", "added_module"),
        ("other_settings", "frozen", "other_settings"),
        ("zeros", "other_rate", "no_gradient"),
    )
]


@settings(max_examples=3, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(oddities)
@example(IN_SAMPLED[0])
@example(IN_SAMPLED[1])
@example(IN_SAMPLED[2])
@example([])
@example(EACH[0])
@example(EACH[1])
@example(EACH[2])
@example(EACH[3])
@example([(111, "cleared", "remade_optimizer")])
@example(
    [
        (104, "cleared", "remade_optimizer"),
        (114, "cleared", "another_optimizer"),
        (118, "cleared", "other_thread"),
        (119, "ready", "remade_optimizer"),
    ]
)
def test_the_record_is_that_of_the_full_way(listed: list[tuple[int, str, str]]) -> None:
    unwatched = LongTraining()
    torch.manual_seed(0)
    bare = unwatched.train(listed)
    by_extension, with_extension = outcome_of(listed, short=True)
    full, with_full = outcome_of(listed, short=False)
    assert by_extension == full
    assert bits(with_extension) == bits(with_full) == bits(bare)


@pytest.mark.parametrize("kind", [LongTraining, DeadTraining, AccumulatingTraining])
@pytest.mark.parametrize("listed", [[], EACH[0], EACH[3], IN_SAMPLED[0], IN_SAMPLED[2]])
def test_so_is_that_of_what_is_rarely_sampled(
    kind: type[LongTraining],
    listed: list[tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The signals of modules, the state of the optimizer and sketches."""
    monkeypatch.setattr(sketch_schedule, "FREE_PER_STEP_S", 1.0)  # whatever they cost

    def outcome(short: bool) -> tuple[list[str], list[Tensor]]:
        training = kind()
        return recorded(
            lambda: training.train(listed),
            short,
            models=[training.model],
            max_batch_rows=64,
            sketch_every=10,
            xray=XraySchedule(7, share=1.0, free_step_s=1.0),
        )

    by_extension, full = outcome(True), outcome(False)
    assert by_extension[0] == full[0]
    assert bits(by_extension[1]) == bits(full[1])
    kinds = {line.split()[1] for line in full[0] if line.startswith("sample ")}
    assert kinds == {SampleKind.MODULE_SIGNALS, SampleKind.OPTIMIZER_STATE}


@pytest.mark.parametrize("listed", [EACH[0], EACH[2], IN_SAMPLED[0], IN_SAMPLED[1]])
def test_so_is_that_of_gradients_of_zeros(listed: list[tuple[int, str, str]]) -> None:
    """Which are looked into ever more rarely."""
    by_extension, full = (outcome_of(listed, short, DeadTraining)[0] for short in (True, False))
    assert by_extension == full


@pytest.mark.parametrize("kind", OF_SEVERAL)
@pytest.mark.parametrize("listed", [[], *EACH, IN_SAMPLED[0]])
def test_so_is_that_of_steps_on_several_losses(
    kind: type[LongTraining], listed: list[tuple[int, str, str]]
) -> None:
    by_extension, full = (outcome_of(listed, short, kind) for short in (True, False))
    assert by_extension[0] == full[0]
    assert bits(by_extension[1]) == bits(full[1])


@pytest.mark.extended
@pytest.mark.parametrize("kind", [LongTraining, DeadTraining, *OF_SEVERAL])
@settings(max_examples=150, deadline=None)
@given(listed=oddities)
def test_the_record_is_that_of_the_full_way_more_often(
    kind: type[LongTraining], listed: list[tuple[int, str, str]]
) -> None:
    assert outcome_of(listed, True, kind)[0] == outcome_of(listed, False, kind)[0]


def test_nearly_all_visits_are_made_by_the_extension() -> None:
    training = LongTraining()
    with WholeRecord(make_backend(), models=[training.model], max_batch_rows=64):
        training.train([])
        visits = python_visits(training, 100)
    # those of the looks that come ever more rarely, and where rows are made
    assert max(visits.values()) <= 10, visits


def test_it_makes_them_where_gradients_are_zeros() -> None:
    training = DeadTraining()
    with WholeRecord(make_backend(), models=[training.model], max_batch_rows=64):
        training.train([])
        visits = python_visits(training, 100)
    assert all(bool((p.grad == 0).all()) for p in training.model[0].parameters())
    assert max(visits.values()) <= 10, visits


def test_it_makes_them_where_losses_are_accumulated() -> None:
    training = AccumulatingTraining()
    with WholeRecord(make_backend(), models=[training.model], max_batch_rows=64):
        training.train([])
        visits = python_visits(training, 100)
    # whether they share a forward pass is looked at in one of ten that may
    assert visits.pop("BackwardVisit.backward_begins") <= 10 + 300 // 10
    assert max(visits.values()) <= 10, visits


def test_it_makes_them_where_signals_are_sampled() -> None:
    training = LongTraining()
    schedule = XraySchedule(5, share=1.0, free_step_s=1.0)
    with WholeRecord(
        make_backend(), models=[training.model], max_batch_rows=64, xray=schedule
    ) as record:
        training.train([])
        visits = python_visits(training, 100)
        num_sampled = len({each.step for each in record.outlet.samples})
    assert num_sampled >= 40
    # the end of the step before
    assert visits.pop("StepVisit.step_ends") <= 10 + 100 // 5
    assert max(visits.values()) <= 10, visits


def test_visits_without_samples_are_made_by_it_too() -> None:
    training = LongTraining()
    with WholeRecord(
        make_backend(), models=[training.model], max_batch_rows=64, sampling=False
    ) as record:
        training.train([])
        visits = python_visits(training, 100)
    assert max(visits.values()) <= 10, visits
    assert record.session.guard.failures == {}


def test_their_record_is_that_of_the_full_way() -> None:
    def lines(short_ways: bool) -> list[str]:
        training = LongTraining()
        return recorded(lambda: training.train([]), short_ways, max_batch_rows=64, sampling=False)[
            0
        ]

    assert lines(True) == lines(False)


def test_without_it_python_makes_them() -> None:
    training = LongTraining()
    with extension.without_extension():
        record = WholeRecord(make_backend(), models=[training.model], max_batch_rows=64)
    with record:
        training.train([])
        visits = python_visits(training, 10)
    assert visits == dict.fromkeys(SHORT_WAYS, 10)


def test_what_waits_for_its_row_is_hidden_from_the_collector() -> None:
    """Else so much of it grows old that all objects of the program are ever again collected."""
    training = LongTraining()
    with WholeRecord(make_backend(), models=[training.model], max_batch_rows=1 << 10) as record:
        training.train([])
        for _ in range(200):
            training.step({})
        waiting = record.session._iteration_queue._pending.waiting  # pyright: ignore
        kept = [
            each
            for iteration in waiting[-100:]
            for each in (iteration, iteration.events, *iteration.events, *iteration.steps)
        ]
        num_tracked = sum(map(gc.is_tracked, kept))
    assert num_tracked < len(kept) / 20  # what Python has made


def test_a_session_that_is_over_is_not_kept() -> None:
    """Objects of C take part in the collection of cycles."""
    session = Session(make_backend())
    HUB.attach(session)
    LongTraining().train([])
    HUB.detach(session)
    session.finish()
    gone = weakref.ref(session)
    del session
    gc.collect()
    assert gone() is None


def test_two_threads_train_at_once() -> None:
    trainings = [LongTraining(), LongTraining()]
    with WholeRecord(make_backend(), models=[t.model for t in trainings]) as record:
        threads = [threading.Thread(target=each.train, args=([],)) for each in trainings]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert record.session.guard.failures == {}
    assert len(record.outlet.rows) == 2 * NUM_STEPS


def test_another_thread_is_waited_for() -> None:
    """While a part of the session runs in Python on one thread, none of C does on another."""
    training = LongTraining()
    with WholeRecord(make_backend(), models=[training.model], max_batch_rows=64) as record:
        training.train([])
        lock, ended = record.session._lock, threading.Event()  # pyright: ignore

        def step() -> None:
            training.step({})
            ended.set()

        thread = threading.Thread(target=step)
        with lock:
            thread.start()
            assert not ended.wait(0.2)
        thread.join()
    assert ended.is_set()
    assert record.session.guard.failures == {}


def test_a_lock_is_taken_again_by_its_thread() -> None:
    lock = extension.make_lock()
    with lock, lock:
        taken = threading.Thread(target=lock.__enter__, daemon=True)
        taken.start()
        taken.join(0.1)
        assert taken.is_alive()
    taken.join(5)
    assert not taken.is_alive()


class Functions(TorchFunctionMode):
    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


class Dispatches(TorchDispatchMode):
    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", [Functions, Dispatches])
def test_modes_of_the_program_see_nothing_of_it(mode: Callable[[list[str]], Any]) -> None:
    def calls_of_steps() -> list[str]:
        seen: list[str] = []
        with mode(seen):
            for _ in range(12):
                training.step({})
        return seen

    training = LongTraining()
    training.train([])
    unwatched = calls_of_steps()
    assert unwatched
    with WholeRecord(make_backend(), models=[training.model], max_batch_rows=64):
        training.train([])
        assert calls_of_steps() == unwatched


def test_a_loss_without_memory_is_left_to_python() -> None:
    training = LongTraining()
    with WholeRecord(make_backend(), models=[training.model], max_batch_rows=64) as record:
        training.train([])
        for _ in range(12):
            training.optimizer.zero_grad()
            loss = training.loss()
            loss.untyped_storage().resize_(0)
            loss.backward()
            training.optimizer.step()
    assert record.session.guard.failures == {}


class ScheduledTraining(LongTraining):
    def __init__(self) -> None:
        super().__init__()
        self.schedule = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.999)

    def step(self, odd: dict[str, str], clips: bool = False) -> None:
        super().step(odd, clips)
        self.schedule.step()


def test_a_schedule_that_is_stepped_in_each_step_leaves_the_visits_to_it() -> None:
    training = ScheduledTraining()
    with WholeRecord(make_backend(), models=[training.model], max_batch_rows=64):
        training.train([])
        visits = python_visits(training, 60)
    assert max(visits.values()) <= 8, visits


def test_an_exception_of_a_signal_handler_passes_through_wherever_python_runs() -> None:
    """Within what Python does for a visit, and in the hooks around it."""

    def interrupt(*_: object) -> None:
        raise PreemptedError

    training, numbers = LongTraining(), range(1, 90, 7)
    before = signal.signal(signal.SIGUSR1, interrupt)
    with WholeRecord(make_backend(), models=[training.model], max_batch_rows=64) as record:
        try:
            training.train([])
            for number in numbers:
                is_interrupted = False
                with at_call(number, lambda: signal.raise_signal(signal.SIGUSR1)):
                    try:
                        for _ in range(12):
                            training.step({})
                    except PreemptedError:
                        is_interrupted = True
                assert is_interrupted, number
                assert torch.is_grad_enabled()
                training.step({})
        finally:
            signal.signal(signal.SIGUSR1, before)
    assert record.session.guard.failures == {}
    assert len(record.outlet.rows) >= NUM_STEPS + len(numbers)
