"""Which run a command is about: the newest, or the one whose name begins as was typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seismograd.cli import main
from seismograd.cli.chosen_run import chosen_run
from seismograd.errors import SeismogradError
from tests.synthetic import block, info, write_run

NAMES = ("20260101T000000Z-train", "20260102T000000Z-train", "20260102T111111Z-gan")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for day, name in enumerate(NAMES, 1):
        about = info(created_utc=f"2026-01-0{day}T00:00:00Z")
        write_run(tmp_path / "runs" / name, [block([[1.0]] * 12)], run_info=about)
    (tmp_path / "runs" / "20260101-not-a-run").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [("show",), ("check",), ("report", "-o", "it.json"), ("top", "--once")],
    ids=lambda command: command[0],
)
def test_the_newest_run_is_the_default_and_is_named(
    here: Path, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(list(command)) == 0
    assert f"run: runs/{NAMES[2]}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "given", ["20260102T1", NAMES[2], f"runs/{NAMES[2]}", "runs/20260102T1", f"./runs/{NAMES[2]}"]
)
def test_a_unique_beginning_of_a_name_is_enough(here: Path, given: str) -> None:
    assert chosen_run(Path(given)).name == NAMES[2]


def test_a_beginning_of_several_names_is_refused_with_their_names(here: Path) -> None:
    with pytest.raises(SeismogradError) as caught:
        chosen_run(Path("20260102"))
    assert all(name in caught.value.line() for name in NAMES[1:])


def test_what_is_no_run_is_left_to_whoever_opens_it(here: Path) -> None:
    assert chosen_run(Path("nowhere")) == Path("nowhere")
    assert chosen_run(Path("20260101-not")) == Path("20260101-not")


def test_two_runs_are_compared_without_a_name(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "--format", "json"]) == 0
    out, err = capsys.readouterr()
    json.loads(out)
    assert f"runs: runs/{NAMES[1]} and runs/{NAMES[2]}" in err


def test_a_run_is_compared_with_the_newest(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "20260101T"]) == 0
    assert f"run: runs/{NAMES[2]}" in capsys.readouterr().err


def test_where_nothing_was_recorded_it_says_how_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check"]) == 2
    assert "record one with: seismograd run train.py" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [("runs",), ("rules",), ("explain", "SG101"), ("check",), ("show",), ("compare",)]
)
def test_json_is_asked_for_in_one_way(
    here: Path, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)


def test_the_runs_as_json_have_what_the_table_has(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "runs" / "damaged").mkdir()
    (here / "runs" / "damaged" / "meta.json").write_text("{")
    main(["runs", "--format", "json"])
    listed = json.loads(capsys.readouterr().out)
    first = listed[0]
    assert first["run"] == f"runs/{NAMES[2]}"
    assert (first["steps"], first["end"], first["findings"]["error"]) == (12, "complete", 0)
    assert "damaged" in listed[-1]["problem"]
