"""`top`: whatever the keys and the size of the terminal, what is shown is of the run and fits;
the terminal is given back as it was.
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from seismograd.cli import main
from seismograd.i18n import use_language
from seismograd.record.reader import open_run
from seismograd.record.writer import Writer
from seismograd.schema import State, StepFlag
from seismograd.views.text_layout import cell_width
from seismograd.views.top.keyboard import split_keys
from seismograd.views.top.screen import Screen
from seismograd.views.top.screen_state import SORTS, ScreenState, listed, press
from seismograd.views.top.snapshot import RunSnapshot, read_snapshot
from tests import synthetic
from tests.record.processes import ENVIRONMENT
from tests.views.page import made
from tests.views.test_module_signals import NAMES, layered

KEYS = [
    "up",
    "down",
    "page up",
    "end",
    "j",
    "k",
    "q",
    "s",
    "r",
    "/",
    "\r",
    "i",
    "\x1b",
    "\x7f",
    "a",
    "*",
    "[",
    "权",
    "\x03",
    "home",
]


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> RunSnapshot:
    run = open_run(made.troubled(tmp_path_factory.mktemp("top") / "run", made.BAD_STEP + 1))
    return read_snapshot(run, going_on=False)


def drawn(
    snapshot: RunSnapshot, control: ScreenState, width: int, height: int, lang: str = "en"
) -> list[str]:
    out = io.StringIO()
    with use_language(lang):
        console = Console(
            file=out,
            width=width,
            height=height,
            color_system=None,
            force_terminal=True,
            legacy_windows=False,
        )
        console.print(Screen(snapshot, control), height=height)
    return out.getvalue().splitlines()


def test_a_snapshot_is_the_last_step_of_the_record(troubled: RunSnapshot) -> None:
    assert (troubled.step, troubled.num_rows, troubled.state) == (
        made.BAD_STEP,
        made.BAD_STEP + 1,
        "ended",
    )
    assert np.isnan(troubled.norm)
    states = {layer.parameter.name: layer.state for layer in troubled.layers}
    assert states["net.0.weight"] == State.NONFINITE
    assert states["net.5.weight"] == State.FINITE


def test_a_loss_that_was_not_measured_is_a_gap(tmp_path: Path) -> None:
    batch = synthetic.block([[1.0]] * 4)
    batch.steps["loss"][1:3], batch.steps["flags"][1] = np.nan, StepFlag.NO_LOSS
    run = synthetic.write_run(tmp_path / "run", [batch])
    snapshot = read_snapshot(open_run(run), going_on=False)
    assert snapshot.losses_seen.tolist() == [1, 0, 1, 1]
    line = next(line for line in drawn(snapshot, ScreenState(), 120, 24) if line.startswith("loss"))
    assert line.count("!") == 1


def test_the_worst_come_first(troubled: RunSnapshot) -> None:
    states = [layer.state for layer in listed(troubled, ScreenState())]
    assert states == sorted(states, reverse=True)
    norms = [
        layer.norm
        for layer in listed(troubled, ScreenState(sort="norm"))
        if layer.norm == layer.norm
    ]
    assert norms == sorted(norms, reverse=True)
    assert [layer.parameter.depth for layer in listed(troubled, ScreenState(sort="depth"))] == list(
        range(12)
    )


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("net.1", 2),
        ("net.[01].*", 4),
        ("*.bias", 6),
        ("net.1 net.2", 4),
        ("[", 0),
        ("NET.5.BIAS", 1),
    ],
)
def test_the_filter_takes_parts_and_globs(troubled: RunSnapshot, text: str, names: int) -> None:
    assert len(listed(troubled, ScreenState(filter=text))) == names


@given(
    st.lists(st.sampled_from(KEYS), max_size=30),
    st.integers(10, 160),
    st.integers(4, 50),
    st.sampled_from(["en", "zh"]),
)
def test_no_keys_and_no_size_break_the_screen(
    troubled: RunSnapshot, keys: list[str], width: int, height: int, lang: str
) -> None:
    control = ScreenState()
    for key in keys:
        control = press(control, key, listed(troubled, control))
        assert control.sort in SORTS
    lines = drawn(troubled, control, width, height, lang)
    assert any("seismograd"[: width - 1] in line for line in lines)


def test_a_wide_screen_shows_more_of_each_parameter(troubled: RunSnapshot) -> None:
    control = ScreenState(sort="depth")
    wide, narrow = (drawn(troubled, control, width, 40) for width in (200, 80))
    head = next(line for line in wide if line.startswith("parameter "))
    for title in ("shape", "× median", "max |g|", "zeros", "update / weights"):
        assert title in head
        assert not any(title in line for line in narrow)
    healthy = next(line for line in wide if line.startswith("net.5.weight"))
    assert "×0." in healthy or "×1" in healthy
    broken = next(line for line in wide if line.startswith("net.0.weight"))
    assert "×" not in broken  # no factor where the norm is not finite
    course = next(line for line in wide if line.startswith("loss"))
    assert len(course) > 70


def test_the_screen_says_what_is_not_finite_and_what_was_found(troubled: RunSnapshot) -> None:
    text = "\n".join(drawn(troubled, ScreenState(), 120, 40))
    for words in ("SG201", "error × 1", "non-finite", "loss nan", "!"):
        assert words in text
    inspected = "\n".join(
        drawn(troubled, ScreenState(inspecting=True, chosen="net.0.weight"), 120, 40)
    )
    assert "NaN/Inf: 1" in inspected


def test_not_finite_is_never_said_to_be_well(tmp_path: Path) -> None:
    run = open_run(made.simple(tmp_path / "run", np.full((5, 2), np.nan)))
    text = "\n".join(drawn(read_snapshot(run, going_on=True), ScreenState(), 100, 20))
    assert "No problems" not in text
    assert "parameters with a non-finite gradient: 2" in text


@given(st.text(max_size=20))
def test_every_key_is_read_once(text: str) -> None:
    assert len(split_keys(text)) <= len(text)
    assert split_keys("\x1b[A" + "q" + "\x1b[6~") == ["up", "q", "page down"]


def test_where_there_is_no_terminal_it_is_printed_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGUAGE", "en")
    made.troubled(tmp_path / "runs" / "it")
    monkeypatch.chdir(tmp_path)
    assert main(["top"]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "net.5.weight" in said
    made.simple(tmp_path / "runs" / "empty", np.empty((0, 2)))
    assert main(["top", "runs/empty"]) == 0
    assert "Nothing has been recorded yet" in capsys.readouterr().out
    for width in (70, 110):
        monkeypatch.setenv("COLUMNS", str(width))
        assert main(["top", "runs/it"]) == 0
        assert max(map(cell_width, capsys.readouterr().out.splitlines())) in range(60, width + 1)


def test_it_follows_a_run_and_gives_the_terminal_back(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "run", synthetic.info())
    writer.observe(synthetic.block([[1.0, 2.0]] * 5))
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 100))
    before = termios.tcgetattr(slave)
    command = [sys.executable, "-m", "seismograd", "top", str(tmp_path / "run")]
    environment = {**ENVIRONMENT, "TERM": "xterm", "LANGUAGE": "en"}
    with subprocess.Popen(
        command, env=environment, stdin=slave, stdout=slave, stderr=slave
    ) as process:
        try:
            read_until(master, rb"step 4\b")
            writer.observe(synthetic.block([[1.0, 2.0]] * 3, first_iteration=5))
            read_until(master, rb"step 7\b")
            os.write(master, b"/bias\r\r")
            read_until(master, rb"shape: ")
            os.write(master, b"q")
            assert process.wait(20) == 0
        finally:
            process.kill()
            writer.close()
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def read_until(terminal: int, pattern: bytes) -> None:
    got = b""
    while not re.search(pattern, re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", got)):
        got += os.read(terminal, 65536)


@pytest.fixture
def sampled(tmp_path: Path) -> RunSnapshot:
    batch = layered(4, layers=8)
    for at, value in ((0, np.nan), (3, 0.25)):
        batch.values[at, NAMES.index("saturated")] = value
        batch.measured[at, NAMES.index("saturated")] = True
    writer = Writer(tmp_path / "run", synthetic.info())
    writer.sampled(layered(1))
    writer.sampled(batch)
    writer.observe(synthetic.block(np.ones((6, 2))))
    writer.close()
    return read_snapshot(open_run(tmp_path / "run"), going_on=False)


def test_the_modules_of_the_newest_sample_have_a_line_each(sampled: RunSnapshot) -> None:
    lines = drawn(sampled, ScreenState(), 100, 40)
    assert "modules: 16 of 16, sampled at step 4" in lines
    rows = {words[0]: words[1:] for line in lines if (words := line.split())[:1]}
    assert rows["net.15"][0] == "0.001"
    assert rows["net.3"][1:] == ["0.5", "25%"]
    assert rows["net.0"][1:] == ["–", "nan"]
    assert rows["net.2"][1:] == ["0.2", "–"]


@pytest.mark.parametrize("height", [8, 12, 16, 20, 28])
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_modules_take_only_what_is_left(sampled: RunSnapshot, height: int, lang: str) -> None:
    lines = drawn(sampled, ScreenState(), 70, height, lang)
    assert len(lines) <= height
    first_words = [line.split()[0] for line in lines if line.split()]
    assert {layer.parameter.name for layer in sampled.layers} <= {*first_words} or height < 16
    modules = [word for word in first_words if re.fullmatch(r"net\.\d+", word)]
    assert bool(modules) == (height >= 16)
    if height == 20:  # those that take most of the signal, the weights, in their order
        assert modules == ["net.1", *(f"net.{at}" for at in range(2, 16, 2))]
