"""When the last session is gone, torch is what it was, and nothing of the training is kept
alive.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.nn import utils
from torch.nn.modules import module as module_module
from torch.nn.utils import clip_grad
from torch.optim import optimizer as optimizer_module

import seismograd
from seismograd.capture.graph.loss_observer import LossObserver
from seismograd.capture.hooks.collectives import RENAMED
from seismograd.capture.hooks.optimizer_step import StepHooks
from seismograd.capture.hub import HUB
from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.iteration_queue import IterationQueue
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.rows.gradient_reader import GradientReader
from seismograd.capture.session import Session
from seismograd.diagnosis.engine import Diagnosis
from seismograd.distributed.world import WorldTracker
from seismograd.measure.reference import ReferenceBackend
from seismograd.pipeline.pump import Pump
from seismograd.record.writer import Writer
from seismograd.schema import Note, RowBatch
from seismograd.settings.levels import LEVELS
from tests.capture.loops import plain, told_nothing
from tests.capture.sessions import make_session

Attribute = tuple[object, str]

PATCHED: tuple[Attribute, ...] = (
    (torch.autograd, "backward"),
    (torch.optim.Optimizer, "zero_grad"),
    (torch.nn.Module, "zero_grad"),
    (clip_grad, "clip_grad_norm_"),
    (clip_grad, "clip_grad_value_"),
    (utils, "clip_grad_norm_"),
    (utils, "clip_grad_value_"),
    (utils, "clip_grads_with_norm_"),
    (torch.amp.GradScaler, "scale"),
    (torch.amp.GradScaler, "unscale_"),
    (torch.amp.GradScaler, "step"),
    (torch.amp.GradScaler, "update"),
    (torch.optim.Optimizer, "__init__"),
    (torch.optim.Optimizer, "__setstate__"),
    (torch.nn.Module, "load_state_dict"),
    (torch.optim.Optimizer, "load_state_dict"),
    (torch.distributed, "all_reduce"),
    (torch.distributed.distributed_c10d, "all_reduce"),
    *(
        (torch.distributed, new if hasattr(torch.distributed, new) else old)
        for old, new in RENAMED.items()
    ),
)


def present() -> list[object]:
    return [vars(owner)[name] for owner, name in PATCHED]


def hooks() -> list[int]:
    return [
        *optimizer_module._global_optimizer_pre_hooks,
        *optimizer_module._global_optimizer_post_hooks,
        *module_module._global_parameter_registration_hooks,
        *module_module._global_module_registration_hooks,
    ]


def session(
    emit: Callable[[RowBatch], None] = lambda batch: None,
    tell: Callable[[Note], None] = lambda note: None,
) -> Session:
    return make_session(ReferenceBackend(), emit, tell)


def test_every_patched_function_is_the_very_same_again() -> None:
    before, hooks_before = present(), hooks()
    one = session()
    HUB.attach(one)
    assert all(now is not then for now, then in zip(present(), before, strict=True))
    HUB.detach(one)
    assert all(now is then for now, then in zip(present(), before, strict=True))
    assert hooks() == hooks_before


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_sessions_may_nest_and_end_in_any_order(order: tuple[int, int]) -> None:
    before = present()
    rows: tuple[list[RowBatch], list[RowBatch]] = ([], [])
    sessions = (session(rows[0].append), session(rows[1].append))
    for one in sessions:
        HUB.attach(one)
    plain(told_nothing)
    for index in order:
        HUB.detach(sessions[index])
        sessions[index].finish()
        plain(told_nothing)
    assert [len(r) for r in rows] == ([5, 10] if order == (0, 1) else [10, 5])
    assert all(now is then for now, then in zip(present(), before, strict=True))


def test_a_function_that_others_patched_meanwhile_stays_theirs() -> None:
    original = clip_grad.clip_grad_norm_
    one = session()
    HUB.attach(one)
    ours = clip_grad.clip_grad_norm_

    def theirs(*args: object, **kwargs: object) -> object:
        return ours(*args, **kwargs)  # type: ignore[arg-type]

    clip_grad.clip_grad_norm_ = theirs  # type: ignore[assignment]
    try:
        HUB.detach(one)
        assert clip_grad.clip_grad_norm_ is theirs
        parameter = torch.nn.Parameter(torch.ones(3))
        parameter.grad = torch.full((3,), 2.0)
        clip_grad.clip_grad_norm_([parameter], 1.0)
        assert torch.linalg.vector_norm(parameter.grad) <= 1.0
    finally:
        clip_grad.clip_grad_norm_ = original


def test_a_deleted_model_and_its_optimizer_are_collected() -> None:
    one = session()
    HUB.attach(one)
    try:
        model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
        optimizer = torch.optim.Adam(model.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
        gone = [weakref.ref(model), weakref.ref(optimizer), weakref.ref(model[0].weight)]
        del model, optimizer
        gc.collect()
        assert [ref() for ref in gone] == [None, None, None]
    finally:
        HUB.detach(one)
        one.finish()


def test_looking_for_names_leaves_the_frames_of_the_script_as_they_were() -> None:
    def trains() -> tuple[dict[str, object], set[str]]:
        kept = locals()
        before = set(kept)
        plain(told_nothing)
        later = "something"
        plain(told_nothing)
        return kept, before

    one = session()
    HUB.attach(one)
    try:
        kept, before = trains()
    finally:
        HUB.detach(one)
        one.finish()
    assert set(kept) == before


def test_no_thread_and_no_open_file_is_left(tmp_path: Path) -> None:
    threads, files = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    for number in range(3):
        with seismograd.watch(out=tmp_path / str(number)):
            plain(told_nothing)
    assert threading.active_count() == threads
    assert len(list(Path("/proc/self/fd").iterdir())) == files


FAULTS: list[tuple[type, str]] = [
    (EventLog, "record"),
    (EventLog, "scalar"),
    (LossObserver, "look"),
    (OptimizerRegistry, "learn"),
    (GradientReader, "read"),
    (GradientReader, "_reading"),
    (IterationQueue, "end_iteration"),
    (StepHooks, "_origin"),
]


@pytest.mark.parametrize(("owner", "method"), FAULTS)
def test_a_fault_in_any_part_of_ours_never_reaches_the_training(
    owner: type, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = plain(told_nothing)

    def fails(*_: object, **__: object) -> object:
        raise RuntimeError("ours")

    notes: list[Note] = []
    one = session(tell=notes.append)
    monkeypatch.setattr(owner, method, fails)
    HUB.attach(one)
    seen = plain(told_nothing)
    HUB.detach(one)
    one.finish()
    assert all(torch.equal(a, b) for a, b in zip(bare, seen, strict=True))
    failures = [note for note in notes if note.kind == "failure"]
    assert failures
    assert len(failures) == len({note.message.values["part"] for note in failures}), (
        "each part is told once"
    )


def test_a_fault_in_the_backend_or_in_what_takes_the_rows_never_reaches_the_training() -> None:
    class Broken:
        name = "broken"

        def measure(self, *_: object) -> object:
            raise MemoryError("ours")

    def full(batch: RowBatch) -> None:
        raise OSError(f"no room for {batch.steps['iteration'][0]}")

    bare = plain(told_nothing)
    for one in (make_session(Broken(), lambda row: None, lambda note: None), session(emit=full)):  # type: ignore[arg-type]
        HUB.attach(one)
        seen = plain(told_nothing)
        HUB.detach(one)
        one.finish()
        assert all(torch.equal(a, b) for a, b in zip(bare, seen, strict=True))
        assert one.guard.failures


@pytest.mark.parametrize(
    ("owner", "method"),
    [(Writer, "observe"), (Writer, "__init__"), (Diagnosis, "observe"), (Pump, "put")],
)
def test_a_fault_of_the_writer_or_a_rule_never_reaches_the_training(
    owner: type, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = plain(told_nothing)

    def fails(*_: object, **__: object) -> object:
        raise RuntimeError("ours")

    monkeypatch.setattr(owner, method, fails)
    with seismograd.watch(out=tmp_path / "run") as recording:
        seen = plain(told_nothing)
    assert all(torch.equal(a, b) for a, b in zip(bare, seen, strict=True))
    assert len(recording.failures) == 1


@pytest.mark.parametrize("level", LEVELS)
def test_no_level_changes_a_bit(level: str, tmp_path: Path) -> None:
    bare = plain(told_nothing)
    with seismograd.watch(out=tmp_path / "run", level=level):
        seen = plain(told_nothing)
    assert all(torch.equal(a, b) for a, b in zip(bare, seen, strict=True))
    rows, _ = seismograd.open_run(tmp_path / "run").samples("exponents")
    assert len(rows) == (0 if level == "light" else 1)


def test_a_forked_child_neither_records_nor_touches_the_record(tmp_path: Path) -> None:
    with seismograd.watch(out=tmp_path / "run") as recording:
        plain(told_nothing)
        child = os.fork()
        if child == 0:
            try:
                plain(told_nothing)
                recording.close()
            finally:
                os._exit(
                    0
                    if vars(torch.autograd)["backward"].__module__ == "torch.autograd"
                    and not HUB.listening
                    else 1
                )
        assert os.waitpid(child, 0)[1] == 0
        plain(told_nothing)
    assert len(seismograd.open_run(tmp_path / "run").steps) == 10


def test_processes_that_are_being_found_out_about_are_none_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread may be in the middle of importing what tells."""
    monkeypatch.setitem(
        sys.modules, "torch.distributed.distributed_c10d", ModuleType("half imported")
    )
    assert not WorldTracker().may_have_joined()


def test_a_paused_recording_holds_nothing_of_what_models_are_called_with(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def called() -> weakref.ref[torch.Tensor]:
        batch = torch.ones(2, 3)
        model(batch)
        return weakref.ref(batch)

    with seismograd.watch(model, optimizer, out=tmp_path / "run") as recording:
        before = called()
        assert before() is not None  # until the step
        recording.pause()
        assert before() is None
        assert called()() is None
        recording.resume()
        assert called()() is not None
        recording.pause()
        recording.close()


def test_a_paused_recording_hears_nothing_and_torch_is_as_it_was(tmp_path: Path) -> None:
    before, hooks_before = present(), hooks()
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def step() -> None:
        model(torch.ones(2, 3)).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    with seismograd.watch(model, optimizer, out=tmp_path / "run", halt_on=["error"]) as recording:
        step()
        recording.pause()
        recording.pause()
        assert all(now is then for now, then in zip(present(), before, strict=True))
        assert hooks() == hooks_before
        step()
        recording.resume()
        recording.resume()
        step()
    assert all(now is then for now, then in zip(present(), before, strict=True))
    assert len(seismograd.open_run(tmp_path / "run").steps) == 2
