"""Rows that are made together are those that are made one by one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import seismograd
from seismograd.capture.hub import HUB
from seismograd.capture.loop.iteration import GradientReading, Iteration, OptimizerStep
from seismograd.capture.rows.row_builder import RowBuilder
from seismograd.capture.rows.row_columns import columns_of_rows
from seismograd.measure.backend import MeasuringBackend
from seismograd.measure.backend_selection import make_backend
from seismograd.measure.native import tensor_reads
from seismograd.measure.reference import ReferenceBackend
from seismograd.schema import (
    MEASURED_EVERY_TIME,
    Note,
    Parameter,
    RowBatch,
    StepFlag,
    concatenate,
)
from seismograd.settings.elements import parse_element
from seismograd.tensors.device_scalars import Scalar
from tests.capture.sessions import make_session

MEASURED_TIMES = {"time_s", "overhead_s"}
STEPS = 30


class Loop:
    """Thirty steps of a small net, with something to happen in some of them."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3)
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)

    def backward(self, factor: float = 1.0) -> None:
        x = torch.randn(8, 6)
        (
            factor * torch.nn.functional.cross_entropy(self.model(x), torch.randint(0, 3, (8,)))
        ).backward()

    def plain(self, _: int) -> None:
        self.optimizer.zero_grad()
        self.backward()
        self.optimizer.step()

    @property
    def two(self) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
        """An optimizer for each layer."""
        self.optimizers = getattr(self, "optimizers", None) or (
            torch.optim.AdamW(self.model[0].parameters(), lr=1e-2),
            torch.optim.SGD(self.model[2].parameters(), lr=1e-2),
        )
        return self.optimizers

    def in_turn(self, number: int) -> None:
        for optimizer in self.two:
            optimizer.zero_grad()
            self.backward(0.0 if number == 7 else 1.0)
            if number > 20 and optimizer is self.two[0]:
                torch.nn.utils.clip_grad_norm_(self.model[0].parameters(), 0.1)
            optimizer.step()

    def both(self, number: int) -> None:
        for optimizer in self.two:
            optimizer.zero_grad()
        self.backward(math.nan if number == 8 else 1.0)
        for optimizer in self.two[: 1 if number == 12 else 2]:
            optimizer.step()

    def overlapping(self, number: int) -> None:
        both = self.optimizer, self.two[0]
        for optimizer in both if number % 3 else both[::-1]:
            optimizer.zero_grad()
        self.backward()
        for optimizer in both if number % 3 else both[::-1]:
            optimizer.step()

    def clipped(self, number: int) -> None:
        self.optimizer.zero_grad()
        self.backward()
        if number % 3:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 0.1 if number % 2 else 100.0)
        if number % 7 == 6:
            torch.nn.utils.clip_grad_value_(self.model.parameters(), 0.01)
        self.optimizer.step()

    def not_finite(self, number: int) -> None:
        self.optimizer.zero_grad()
        self.backward(math.nan if number == 8 else 1.0 if number < 20 else 0.0)
        self.optimizer.step()

    def carried(self, number: int) -> None:
        if number % 4:
            self.optimizer.zero_grad()
        self.backward()
        if number % 5 == 0:
            self.backward()
        self.optimizer.step()

    def without_a_gradient(self, number: int) -> None:
        self.optimizer.zero_grad()
        self.model[2].requires_grad_(number % 9 < 6)
        self.backward() if number != 4 else None
        self.optimizer.step()

    def growing(self, number: int) -> None:
        if number == 11:
            self.added = torch.nn.Parameter(torch.ones(4))
            self.optimizer.add_param_group({"params": [self.added], "lr": 0.5})
        self.optimizer.zero_grad()
        self.backward()
        if number >= 11:
            self.added.square().sum().backward()
        self.optimizer.step()

    def scaled(self, number: int) -> None:
        self.optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            self.model(torch.randn(8, 6)), torch.randint(0, 3, (8,))
        )
        self.scaler = getattr(self, "scaler", torch.amp.GradScaler("cpu", init_scale=1024.0))
        self.scaler.scale(loss * (math.inf if number == 5 else 1.0)).backward()
        if number % 2:
            self.scaler.unscale_(self.optimizer)
        self.scaler.step(self.optimizer)
        self.scaler.update()


LOOPS = ["plain", "clipped", "not_finite", "carried", "without_a_gradient", "growing", "scaled"]
OF_TWO = ["in_turn", "both", "overlapping"]


def joined(batches: list[RowBatch]) -> list[RowBatch]:
    """One batch for each set of columns."""
    groups: list[list[RowBatch]] = []
    for batch in batches:
        if groups and groups[-1][-1].parameters == batch.parameters:
            groups[-1].append(batch)
        else:
            groups.append([batch])
    return [concatenate(group) for group in groups]


@pytest.mark.parametrize(
    ("make", "elements"), [(make_backend, ()), (ReferenceBackend, ("0.weight[0,0]", "2.bias[1]"))]
)
@pytest.mark.parametrize("name", [*LOOPS, *OF_TWO])
def test_rows_made_together_are_those_made_one_by_one(
    name: str, make: Callable[[], MeasuringBackend], elements: tuple[str, ...]
) -> None:
    loop = Loop()
    notes: list[Note] = []
    kept: list[list[RowBatch]] = [[], []]
    specs = [parse_element(text) for text in elements]
    sessions = [
        make_session(
            make(),
            items.append,
            notes.append,
            [loop.model],
            [loop.optimizer, *loop.two] if name in OF_TWO else [loop.optimizer],
            specs,
            max_batch_rows=size,
        )
        for items, size in zip(kept, (1, 64), strict=True)
    ]
    for session in sessions:
        HUB.attach(session)
    for number in range(STEPS):
        getattr(loop, name)(number)
    for session in sessions:
        HUB.detach(session)
        session.finish()
        assert session.guard.failures == {}, notes
    alone, together = map(joined, kept)
    if name in ("plain", "clipped", "not_finite", "carried"):
        assert len(kept[1]) < STEPS / 2
    if name in OF_TWO and not elements:
        assert len(kept[1]) < len(joined(kept[0])[0]) / 2
    assert len(alone) == len(together)
    for one, other in zip(alone, together, strict=True):
        assert_same(one, other)


def assert_same(one: RowBatch, other: RowBatch) -> None:
    """Everything but what a clock said, to the last bit."""
    assert one.parameters == other.parameters
    assert one.values.keys() == other.values.keys()
    assert one.samples.keys() == other.samples.keys()
    for name in one.values:
        np.testing.assert_array_equal(one.values[name], other.values[name], err_msg=name)
    for name in one.samples:
        np.testing.assert_array_equal(one.samples[name], other.samples[name], err_msg=name)
    np.testing.assert_array_equal(one.state, other.state)
    np.testing.assert_array_equal(one.sample_rows, other.sample_rows)
    np.testing.assert_array_equal(one.elements, other.elements)
    for first, second in (
        (one.steps, other.steps),
        (one.events, other.events),
        (one.pairs, other.pairs),
    ):
        assert len(first) == len(second)
        for field in set(first.dtype.names or ()) - MEASURED_TIMES:
            np.testing.assert_array_equal(first[field], second[field], err_msg=field)


@pytest.mark.skipif(not tensor_reads.has_extension(), reason="it was not built")
@pytest.mark.parametrize("name", LOOPS)
def test_rows_of_the_extension_are_those_of_python(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, num_alike = RowBuilder.build, list[bool]()

    def build_twice(self: RowBuilder, iterations: Sequence[Iteration]) -> RowBatch:
        ours = build(self, iterations)
        with tensor_reads.without_extension():
            theirs = build(self, iterations)
        assert_same(ours, theirs)
        for one, other in ((ours.steps, theirs.steps), (ours.events, theirs.events)):
            assert one.dtype == other.dtype
            assert one.tobytes() == other.tobytes()
            assert one.flags.writeable
        num_alike.append(tensor_reads.step_entries(list(iterations), *made_up(iterations)) is None)
        return ours

    monkeypatch.setattr(RowBuilder, "build", build_twice)
    loop = Loop()
    session = make_session(
        make_backend(), lambda _: None, lambda _: None, [loop.model], [loop.optimizer], []
    )
    HUB.attach(session)
    for number in range(STEPS):
        getattr(loop, name)(number)
    HUB.detach(session)
    session.finish()
    assert session.guard.failures == {}
    assert any(num_alike) is (name in ("carried", "scaled"))


def made_up(iterations: Sequence[Iteration]) -> tuple[list[float], list[float], list[int]]:
    return [1.0] * len(iterations), [1.0] * len(iterations), []


def test_a_training_that_pauses_has_all_steps_that_are_over_in_its_record(tmp_path: Path) -> None:
    loop = Loop()
    with seismograd.watch(loop.model, loop.optimizer, out=tmp_path / "run"):
        for number in range(20):
            loop.plain(number)
        patience = time.monotonic() + 60
        while num_recorded(tmp_path / "run") < 20 and time.monotonic() < patience:
            time.sleep(0.05)
        assert num_recorded(tmp_path / "run") == 20


def num_recorded(path: Path) -> int:
    return len(seismograd.open_run(path).steps) if (path / "meta.json").exists() else 0


def test_a_model_that_never_changes_is_one_segment_however_its_rows_were_made(
    tmp_path: Path,
) -> None:
    loop = Loop()
    recording = seismograd.watch(loop.model, loop.optimizer, out=tmp_path / "run")
    with recording:
        for number in range(24):
            loop.plain(number)
            if number % 5 in (0, 1):  # one row alone, then several together
                recording._session.flush()
                recording._pump._wake.set()
                wait_for(tmp_path / "run", number)
    assert num_recorded(tmp_path / "run") == 24
    assert len(list((tmp_path / "run" / "segments").iterdir())) == 1


def wait_for(path: Path, num_rows: int) -> None:
    patience = time.monotonic() + 60
    while num_recorded(path) < num_rows and time.monotonic() < patience:
        time.sleep(0.01)


def step_of(optimizer: int, columns: Sequence[int], norm: float) -> OptimizerStep:
    """A step of an optimizer that has read these columns."""
    places = np.asarray(columns, np.int64)
    numbers = {each.name: np.full(len(places), 0.0) for each in MEASURED_EVERY_TIME}
    numbers["grad_norm"] = np.full(len(places), norm)
    reading = GradientReading(
        places, np.full(len(places), 8), None, numbers, {}, np.zeros(0), None, (), None
    )
    flags, none = StepFlag.NONE, np.zeros(0, np.int64)
    return OptimizerStep(optimizer, 0, Scalar(0.1), 1, flags, none, (), reading)


def test_what_the_first_of_two_optimizers_has_read_stays() -> None:
    parameters = tuple(Parameter(name, (8,), "float32", 8) for name in "abc")
    rows = [
        Iteration(
            steps=[step_of(0, (0, 1), 1.0 + i), step_of(1, (1, 2), 5.0)],
            number=i,
            parameters=parameters,
        )
        for i in range(2)
    ]
    together = columns_of_rows(rows, 0)
    assert together.values["grad_norm"].tolist() == [[1.0, 1.0, 5.0], [2.0, 2.0, 5.0]]
    for i, row in enumerate(rows):
        alone = columns_of_rows([row], 0)
        np.testing.assert_array_equal(alone.state[0], together.state[i])
        for name, each in alone.values.items():
            np.testing.assert_array_equal(each[0], together.values[name][i], err_msg=name)
