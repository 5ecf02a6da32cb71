"""A training that goes on from a checkpoint goes on in its record, with the findings of a training
in one go.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import seismograd  # noqa: E402
from seismograd import SeismogradError, open_run  # noqa: E402
from seismograd.diagnosis.verdict import judge  # noqa: E402
from seismograd.errors import ResumptionRefused, TrainingHalted  # noqa: E402
from seismograd.record.inspection import inspect  # noqa: E402
from seismograd.recording import Recording  # noqa: E402
from seismograd.schema import Finding  # noqa: E402
from seismograd.views.run_condition import condition, end_code  # noqa: E402

NUM_STEPS, CHECKPOINT, STOPPED = 120, 60, 90
Loss = Callable[[Any, int], Any]


def as_it_is(loss: Any, step: int) -> Any:
    del step
    return loss


def nan_before(loss: Any, step: int) -> Any:
    return loss * float("nan") if step == 40 else loss


def nan_behind(loss: Any, step: int) -> Any:
    return loss * float("nan") if step == 70 else loss


def unused_layer(loss: Any, step: int) -> Any:
    del step
    return loss


class Program:
    """A script that may be run from a checkpoint on."""

    def __init__(self, loss: Loss = as_it_is, optimizer: str = "AdamW", width: int = 16) -> None:
        torch.manual_seed(0)
        self.x = torch.randn(64, 8)
        self.y = self.x @ torch.randn(8, 1)
        self.net = torch.nn.Sequential(
            torch.nn.Linear(8, width), torch.nn.ReLU(), torch.nn.Linear(width, 1)
        )
        if loss is unused_layer:
            self.net.append(torch.nn.Linear(1, 1))
        self.optimizer = getattr(torch.optim, optimizer)(self.net.parameters(), 1e-2)
        self.loss = loss

    def state(self) -> dict[str, Any]:
        state = {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}
        return copy.deepcopy(state)

    def load(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])

    def train(self, first: int, stop: int) -> None:
        for step in range(first, stop):
            self.optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(self.net[:3](self.x), self.y)
            self.loss(loss, step).backward()
            self.optimizer.step()


def watch(program: Program, **options: Any) -> Recording:
    return seismograd.watch(program.net, program.optimizer, quiet=True, **options)


def interrupted(path: Path, loss: Loss, optimizer: str = "AdamW") -> dict[str, Any]:
    """The record of a training that was stopped, and the checkpoint that it had made before."""
    program = Program(loss, optimizer)
    with watch(program, out=path) as session:
        program.train(0, CHECKPOINT)
        state = program.state() | {"seismograd": session.state_dict()}
        program.train(CHECKPOINT, STOPPED)
    return state


def facts_of(finding: Finding) -> tuple[object, ...]:
    return finding.code, finding.severity, finding.first_step, finding.last_step, finding.parameters


@pytest.mark.parametrize("loss", [as_it_is, nan_before, nan_behind, unused_layer])
def test_findings_are_those_of_a_training_in_one_go(loss: Loss, tmp_path: Path) -> None:
    in_one_go = Program(loss)
    with watch(in_one_go, out=tmp_path / "whole"):
        in_one_go.train(0, NUM_STEPS)
    state = interrupted(tmp_path / "run", loss)
    program = Program(loss)
    with watch(program, resume=tmp_path / "run") as session:
        program.load(state)
        program.train(CHECKPOINT, NUM_STEPS)
        assert session.path == tmp_path / "run"
        assert session.num_iterations == NUM_STEPS
    run, whole = open_run(tmp_path / "run"), open_run(tmp_path / "whole")
    assert run.steps["iteration"].tolist() == list(range(NUM_STEPS))
    assert run.steps["loss"].tobytes() == whole.steps["loss"].tobytes()
    assert run.steps["step"].tolist() == whole.steps["step"].tolist()
    assert (run.steps["time_s"][1:] > run.steps["time_s"][:-1]).all()
    assert run.series("grad_norm").tobytes() == whole.series("grad_norm").tobytes()
    # The one that cleared behind the last step before the checkpoint, and the one at the start.
    assert len(run.events) == len(whole.events) + 1
    assert (run.sites, run.optimizers) == (whole.sites, whole.optimizers)
    assert list(map(facts_of, run.findings)) == list(map(facts_of, whole.findings))
    assert bool(run.findings) == (loss is not as_it_is)
    assert run.conclusion is not None
    assert whole.conclusion is not None
    assert run.conclusion.statuses == whole.conclusion.statuses
    assert list(map(facts_of, judge(run).findings)) == list(map(facts_of, whole.findings))
    assert inspect(tmp_path / "run").damage == ()
    (branch,) = run.branches
    assert open_run(branch).num_rows == STOPPED
    assert end_code(run) == "complete"
    told = [each.plain for each in condition(run)]
    assert len(told) == 1
    assert told[0].count("step") == 2  # the one and "the steps"
    assert f"resumed from step {CHECKPOINT}; the steps that were recorded" in told[0]


def test_a_checkpoint_with_the_state_of_the_recording_brings_its_record_back(
    tmp_path: Path,
) -> None:
    """As JSON too, with SGD, which counts no steps, and in another directory in the meantime."""
    state = interrupted(tmp_path / "run", as_it_is, "SGD")
    state["seismograd"] = json.loads(json.dumps(state["seismograd"]))
    program = Program(as_it_is, "SGD")
    with watch(program, out=tmp_path / "other") as session:
        program.load(state)
        session.load_state_dict(state["seismograd"])
        program.train(CHECKPOINT, NUM_STEPS)
    assert session.path == tmp_path / "run"
    assert not (tmp_path / "other").exists()
    run = open_run(tmp_path / "run")
    assert run.ended
    assert run.steps["iteration"].tolist() == list(range(NUM_STEPS))
    assert len(run.branches) == 1


def test_where_the_record_is_gone_a_new_one_begins_with_the_step(tmp_path: Path) -> None:
    state = interrupted(tmp_path / "run", as_it_is)
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    program = Program()
    with watch(program, out=tmp_path / "other") as session:
        session.load_state_dict(state["seismograd"])
        program.load(state)
        program.train(CHECKPOINT, NUM_STEPS)
        session.load_state_dict(state["seismograd"])
    run = open_run(tmp_path / "other")
    assert run.steps["iteration"].tolist() == list(range(CHECKPOINT, NUM_STEPS))
    assert [each.message.template.split(",")[0] for each in run.notes] == [
        "the record of the checkpoint",
        "the state of step {step} was loaded; steps are numbered on",
    ]
    assert open_run(tmp_path / "elsewhere").num_rows == STOPPED


@pytest.mark.parametrize(
    ("at", "loads", "first", "said"),
    [
        ("", True, STOPPED, "does not say its step"),
        ("@60", True, CHECKPOINT, None),
    ],
)
def test_what_tells_no_step_is_said(
    at: str, loads: bool, first: int, said: str | None, tmp_path: Path
) -> None:
    state = interrupted(tmp_path / "run", as_it_is, "SGD")
    program = Program(as_it_is, "SGD")
    with watch(program, resume=f"{tmp_path / 'run'}{at}"):
        if loads:
            program.load(state)
        program.train(0, 10)
    run = open_run(tmp_path / "run")
    assert run.steps["iteration"].tolist() == list(range(first + 10))
    told = [each.message.render() for each in run.notes]
    assert told[0].startswith(f"resumed from step {first}")
    assert len(told) == 1 + (said is not None)
    assert said is None or said in told[1]


def test_a_state_that_was_loaded_before_is_found(tmp_path: Path) -> None:
    """As with the callbacks of frameworks, which begin when everything is loaded."""
    state = interrupted(tmp_path / "run", as_it_is)
    program = Program()
    program.load(state)
    with watch(program, resume=tmp_path / "run"):
        program.train(0, 10)
    run = open_run(tmp_path / "run")
    assert run.steps["iteration"].tolist() == list(range(CHECKPOINT + 10))
    (note,) = run.notes
    assert note.message.render().startswith(f"resumed from step {CHECKPOINT};")


def test_another_model_ends_the_training_and_changes_nothing(tmp_path: Path) -> None:
    interrupted(tmp_path / "run", as_it_is)
    program = Program(width=4)
    session = watch(program, resume=tmp_path / "run")
    with pytest.raises(ResumptionRefused, match="has another shape"), session:
        program.train(0, 10**6)
    run = open_run(tmp_path / "run")
    assert (run.num_rows, run.ended, run.branches) == (STOPPED, True, ())
    assert session.failures == []


def test_what_is_no_record_is_refused_at_once(tmp_path: Path) -> None:
    program = Program()
    with pytest.raises(SeismogradError, match="there is no run"):
        watch(program, resume=tmp_path / "nothing")
    interrupted(tmp_path / "run", as_it_is)
    with pytest.raises(SeismogradError, match="--out begins one"):
        watch(program, resume=tmp_path / "run", out=tmp_path / "other")


def test_elements_are_those_of_the_record(tmp_path: Path) -> None:
    program = Program()
    with watch(program, out=tmp_path / "run", elements=["0.weight[0,0]"]):
        program.train(0, 20)
    with watch(program, resume=tmp_path / "run"):
        program.train(20, 30)
    run = open_run(tmp_path / "run")
    assert run.elements[1].shape == (30, 1)
    assert (run.elements[1] == run.elements[1]).all()


class Recovering(Program):
    """A script whose gradients are not finite in some steps, of which it takes the update back: its
    optimizer counts fewer.
    """

    def __init__(self, *bad: int) -> None:
        super().__init__()
        self.bad = bad

    def train(self, first: int, stop: int) -> None:
        for step in range(first, stop):
            before = self.state() if step in self.bad else None
            self.loss = (lambda loss, _: loss * float("nan")) if step in self.bad else as_it_is
            super().train(step, step + 1)
            if before is not None:
                self.load(before)


def test_what_was_found_before_alone_stops_no_training_that_goes_on(tmp_path: Path) -> None:
    program = Recovering(40)
    with watch(program, out=tmp_path / "run") as session:
        program.train(0, CHECKPOINT)
        state = program.state()
    assert not session.stopping_findings  # nobody asked for it
    again = Recovering()
    with watch(again, resume=f"{tmp_path / 'run'}@{CHECKPOINT}", halt_on=["SG201"]) as session:
        again.load(state)
        again.train(CHECKPOINT, NUM_STEPS)
    run = open_run(tmp_path / "run")
    assert run.num_rows == NUM_STEPS
    assert ("SG201", 40, 40) in [(f.code, f.first_step, f.last_step) for f in run.findings]
    assert session.stopping_findings == ()
    told = [each.message.render() for each in run.notes if each.kind == "resumed"]
    assert told[-1].startswith("found before the training was resumed: SG201; ")


def test_what_is_found_again_stops_a_training_that_goes_on(tmp_path: Path) -> None:
    program = Recovering(40)
    with watch(program, out=tmp_path / "run"):
        program.train(0, CHECKPOINT)
        state = program.state()
    again = Recovering(70)
    session = watch(again, resume=f"{tmp_path / 'run'}@{CHECKPOINT}", halt_on=["SG201"])
    again.load(state)
    with pytest.raises(TrainingHalted, match="before the update of step 70: SG201"):
        again.train(CHECKPOINT, NUM_STEPS)
    session.close()
    assert [each.code for each in session.stopping_findings] == ["SG201"]


def test_what_is_still_so_stops_a_training_that_goes_on(tmp_path: Path) -> None:
    """At its end at the latest: the rules look once a second."""
    state = interrupted(tmp_path / "run", unused_layer)
    (found,) = open_run(tmp_path / "run").findings
    program = Program(unused_layer)
    with (
        suppress(TrainingHalted),
        watch(program, resume=tmp_path / "run", halt_on=[found.code]) as session,
    ):
        program.load(state)
        program.train(CHECKPOINT, NUM_STEPS)
    assert [each.code for each in session.stopping_findings] == [found.code]
