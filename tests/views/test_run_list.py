"""The list of runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.schema import Note
from seismograd.views.run_list import find_runs, render
from tests.synthetic import block, finding, info, write_run
from tests.views.golden import rendered
from tests.views.samples import states_of_all_kinds


def test_the_newest_run_comes_first(tmp_path: Path) -> None:
    for name, created in (
        ("a", "2026-01-02T03:04:05Z"),
        ("b", "2026-03-01T00:00:00Z"),
        ("c", "2025-12-31T23:59:59Z"),
    ):
        write_run(tmp_path / name, [block([[1.0]])], run_info=info(created_utc=created))
    assert [each.path.name for each in find_runs(tmp_path)] == ["b", "a", "c"]


def test_a_row_says_how_the_run_went(tmp_path: Path) -> None:
    write_run(
        tmp_path / "found",
        [block([[1.0], [1.0]], loss=[2.5, 0.75])],
        findings=[finding(), finding(severity="warning", code="SG101")],
    )
    states_of_all_kinds(tmp_path / "killed")
    text = {
        line.split()[0]: line
        for line in rendered(render(find_runs(tmp_path)), width=120).splitlines()
    }
    *words, size, unit, end = text["found"].split()
    assert (unit, end) == ("kB", "complete")
    assert float(size) > 1
    assert words[1:] == [
        "2026-01-02",
        "03:04",
        "2",
        "1",
        "0.75",
        "error",
        "×",
        "1,",
        "warning",
        "×",
        "1",
    ]
    assert text["killed"].split()[-2:] == ["not", "ended"]


def test_a_damaged_run_is_listed_with_its_damage_and_hides_no_other(tmp_path: Path) -> None:
    write_run(tmp_path / "whole", [block([[1.0]])])
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "meta.json").write_text("{")
    (tmp_path / "something-else").mkdir()
    text = rendered(render(find_runs(tmp_path)), width=200)
    assert "whole" in text
    assert "incomplete or damaged" in text
    assert "something-else" not in text


@pytest.mark.parametrize("name", ["steps.bin", "segments/0000/grad_norm.f64", "notes.jsonl"])
def test_a_run_that_ended_and_lost_something_since_is_not_complete(
    tmp_path: Path, name: str
) -> None:
    run = tmp_path / "short"
    write_run(run, [block([[1.0], [1.0]])], notes=[Note("hook", 1, say("a hook failed"))])
    assert rendered(render(find_runs(tmp_path)), width=120).split()[-1] == "complete"
    with (run / name).open("r+b") as file:
        file.truncate((run / name).stat().st_size // 2)
    assert rendered(render(find_runs(tmp_path)), width=120).split()[-1] == "damaged"


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_where_there_is_no_run_it_says_how_to_record_one(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SeismogradError) as caught:
        find_runs(tmp_path / name)
    assert "seismograd run train.py" in caught.value.line()


@pytest.mark.parametrize("kind", ["halted", "crashed", "failed", "interrupted"])
def test_a_training_that_did_not_come_to_its_own_end_is_not_complete(
    tmp_path: Path, kind: str
) -> None:
    write_run(tmp_path / "run", [block([[1.0]])], notes=[Note(kind, -1, say("the reason"))])
    assert rendered(render(find_runs(tmp_path)), width=120).split()[-1] == kind


def test_of_a_run_without_a_step_it_is_not_said_that_nothing_was_found(tmp_path: Path) -> None:
    write_run(tmp_path / "run", [])
    words = rendered(render(find_runs(tmp_path)), width=120).split()
    assert words[-2:] == ["no", "steps"]
    assert "none" not in words
