"""The step of a checkpoint, by the updates that its optimizer had made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seismograd import open_run
from seismograd.record.checkpoint_step import run_identity, step_after_updates, step_behind
from seismograd.record.record_numbers import RecordNumbers
from seismograd.schema import Optimizer, Site, StepFlag
from tests import synthetic
from tests.synthetic import block, write_run

NORMS = np.ones((20, 2))


@pytest.mark.parametrize(
    ("num_updates", "ended", "step"),
    [(1, True, 1), (20, True, 20), (25, True, 20), (25, False, 25)],
)
def test_each_step_is_an_update(num_updates: int, ended: bool, step: int, tmp_path: Path) -> None:
    """Of a killed record the last ones may be missing; one that ended began with some."""
    run = open_run(write_run(tmp_path / "run", [block(NORMS)], ended=ended))
    assert step_behind(run) == 20
    assert step_after_updates(run, num_updates) == step


def test_skipped_steps_are_no_updates(tmp_path: Path) -> None:
    flags = np.zeros(20, np.uint32)
    flags[[3, 7]] = int(StepFlag.SKIPPED)
    run = open_run(write_run(tmp_path / "run", [block(NORMS, flags=flags)]))
    assert step_after_updates(run, 3) == 3
    assert step_after_updates(run, 4) == 5
    assert step_after_updates(run, 18) == 20


def test_of_two_optimizers_in_turn_both_have_stepped(tmp_path: Path) -> None:
    optimizer = np.arange(20) % 2
    both = [Optimizer(0, "Adam", "d"), Optimizer(1, "Adam", "g")]
    run = open_run(
        write_run(tmp_path / "run", [block(NORMS, optimizer=optimizer, optimizers=both)])
    )
    assert step_after_updates(run, 5) == 10


def test_a_record_without_steps_begins_with_the_first(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path / "run", []))
    assert step_behind(run) == 0
    assert step_after_updates(run, 7) == 0


def test_a_record_is_known_wherever_it_is_moved_to(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", [block(NORMS)])
    identity = run_identity(path)
    path.rename(tmp_path / "moved")
    assert run_identity(tmp_path / "moved") == identity != ""
    assert run_identity(path) == ""


def test_lines_and_optimizers_keep_the_numbers_of_the_record(tmp_path: Path) -> None:
    """Another session meets them in another order, and new ones come behind."""
    gan = [Optimizer(0, "Adam", "d"), Optimizer(1, "SGD", "g")]
    run = open_run(write_run(tmp_path / "run", [block(NORMS, optimizers=gan)]))
    sites = [Site("new.py", 1, "f"), *reversed(synthetic.SITES)]
    session = [Optimizer(0, "SGD", "g"), Optimizer(1, "AdamW", "new"), Optimizer(2, "Adam", "d")]
    events = synthetic.ordinary_events(1)
    for optimizer, each in enumerate(events):
        each["site"], each["optimizer"], each["touched"] = optimizer, optimizer, 1 << optimizer
    given = block(NORMS[:1], first_iteration=20, events=events, sites=sites, optimizers=session)
    rows = RecordNumbers(run).rows(given)
    assert rows.sites == [*synthetic.SITES, Site("new.py", 1, "f")]
    assert [each.name for each in rows.optimizers] == ["d", "g", "new"]
    assert [each.index for each in rows.optimizers] == [0, 1, 2]
    assert rows.events["site"].tolist() == [3, 2, 1]
    assert rows.events["optimizer"].tolist() == [1, 2, 0]
    assert rows.events["touched"].tolist() == [2, 4, 1]
    assert {each.optimizer for each in rows.parameters} == {1}
    assert rows.steps["optimizer"].tolist() == [1]
    assert rows.steps["time_s"][0] > run.steps["time_s"][-1]
    assert (given.events["site"] == [0, 1, 2]).all()  # what the session has stays as it is
