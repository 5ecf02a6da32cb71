"""Every view of runs whose rows do not hold all parameters: optimizers in turn, parameters that
are never measured, a single step.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from seismograd.cli import main
from seismograd.record.reader import open_run
from seismograd.schema import RowBatch, State
from seismograd.views.page_api.packing import unpack
from seismograd.views.page_api.run_source import open_source
from seismograd.views.top.screen import Screen
from seismograd.views.top.screen_state import ScreenState
from seismograd.views.top.snapshot import read_snapshot
from tests.synthetic import block, make_parameters, write_run

NUM_LAYERS = 6
Measured = Callable[[int], slice | list[int]]


def made(num_steps: int, measured: Measured) -> RowBatch:
    """Two weights and biases each of `NUM_LAYERS` layers; of each step only the columns that are
    measured in it.
    """
    norms = np.full((num_steps, 2 * NUM_LAYERS), np.nan)
    state = np.full(norms.shape, State.NOT_MEASURED)
    for step in range(num_steps):
        norms[step, measured(step)] = 1.5
        state[step, measured(step)] = State.FINITE
    return block(
        norms,
        parameters=make_parameters(2 * NUM_LAYERS),
        state=state,
        optimizer=np.arange(num_steps) % 3,
    )


def in_turn(step: int) -> slice | list[int]:
    return [slice(0, 6), slice(6, 12), slice(10, 11)][step % 3]


RUNS = {
    "in turn": lambda: made(300, in_turn),
    "in turn, all together once": lambda: made(
        700, lambda step: slice(None) if step == 150 else in_turn(step)
    ),
    "never measured": lambda: made(200, lambda _: []),
    "one column": lambda: made(90, lambda _: [3]),
    "a single step": lambda: made(1, lambda _: slice(None)),
    "a single step of half": lambda: made(1, lambda _: slice(0, 6)),
}


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", [RUNS[request.param]()])


COMMANDS = [
    *(["show", "RUN", "--format", form] for form in ("table", "plain", "json")),
    *(["check", "RUN", "--format", form] for form in ("text", "json", "github", "sarif", "junit")),
    *(["report", "RUN", "-o", f"OUT/report.{kind}"] for kind in ("html", "md", "json")),
    ["compare", "RUN", "RUN"],
    ["compare", "RUN", "RUN", "--format", "json"],
    ["runs", "OUT"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_shows_it(
    run: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    positions = {"RUN": str(run), "OUT": str(run.parent)}
    words = [
        word.replace("OUT", positions["OUT"])
        if word.startswith("OUT")
        else positions.get(word, word)
        for word in command
    ]
    assert main(words) in (0, 1)  # 1: something was found
    assert "Traceback" not in capsys.readouterr().err


def test_the_page_answers_for_every_row(run: Path) -> None:
    opened = open_run(run)
    source = open_source(opened)
    for row in range(0, opened.num_rows, 7):
        header, arrays = unpack(source.answer("step", {"row": str(row)}))
        assert header["row"] == row
        np.testing.assert_array_equal(
            arrays["states"], next(iter(opened.blocks(1, row, row + 1))).state[0]
        )
    for question in ("meta", "heat", "scalars", "line", "lanes", "histogram"):
        assert unpack(source.answer(question, {"column": "0"}))[0]


@pytest.mark.parametrize("inspecting", [False, True])
def test_top_shows_it(run: Path, inspecting: bool) -> None:
    out = io.StringIO()
    control = ScreenState(inspecting=inspecting, chosen="net.0.weight")
    Console(file=out, width=100, height=30).print(
        Screen(read_snapshot(open_run(run), going_on=False), control)
    )
    assert "net.0.weight" in out.getvalue()


def test_the_line_over_depth_is_of_a_row_that_holds_the_layers(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [RUNS["in turn, all together once"]()])
    source = open_source(open_run(run))

    def fit(row: int) -> Any:
        return unpack(source.answer("step", {"row": str(row)}))[0]["fit"]

    assert fit(149) is None
    assert fit(150)["row"] == fit(160)["row"] == fit(699)["row"] == 150
