"""The widget of a run: what its state holds, that it grows at a bounded rate and size, and that it
costs nothing where it is not asked for.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seismograd
from seismograd.errors import SeismogradError
from seismograd.package_info import PACKAGE_DIR
from seismograd.record.reader import open_run
from seismograd.record.writer import Writer
from seismograd.views.page_api.packing import unpack
from seismograd.views.widget import run_follower
from seismograd.views.widget.run_follower import GrowingRun, RunFollower
from seismograd.views.widget.widget_answers import widget_answers
from tests.record.processes import run_python
from tests.synthetic import block, info, make_parameters, write_run


def held(answers: bytes) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """The answers by name, as the script of the widget finds them."""
    header, arrays = unpack(gzip.decompress(answers))
    whole = arrays["bytes"].tobytes()
    places: Any = header["answers"]
    return {name: unpack(whole[at : at + size]) for name, (at, size) in places.items()}  # type: ignore[misc]


def meta(answers: bytes) -> dict[str, Any]:
    return held(answers)["meta"][0]


def test_the_state_holds_what_a_view_draws(tmp_path: Path) -> None:
    norms = np.full((50, 3), 0.5)
    norms[20, 1] = np.nan
    run = open_run(write_run(tmp_path / "run", [block(norms)]))
    answers = held(widget_answers(run, going_on=False))
    assert {"meta", "heat/grad_norm/high", "scalars", "step/0", "step/49"} <= answers.keys()
    assert {each["code"] for each in answers["meta"][0]["findings"]} >= {"SG201"}
    heat = answers["heat/grad_norm/high"][1]
    codes = heat["low_bytes"].astype(int) | heat["high_bytes"].astype(int) << 8
    assert codes.shape == (3, 50)
    assert np.argwhere(codes == 32767).tolist() == [[1, 20]]  # NaN, neither a gap nor zero


@pytest.mark.parametrize(("num_parameters", "num_steps"), [(40, 900), (5000, 25)])
def test_its_size_is_bounded(num_parameters: int, num_steps: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    norms = 10 ** rng.normal(-2, 1, (num_steps, num_parameters))  # nothing compresses worse
    made = block(
        norms,
        parameters=make_parameters(names=[f"h.{each}.weight" for each in range(num_parameters)]),
        sample_rows=[],
    )
    run = open_run(write_run(tmp_path / "run", [made], ended=False))
    assert len(widget_answers(run, going_on=True)) < 400_000


class Clock:
    """Stands for the event that the follower waits for: it does something instead of waiting."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self.waited: list[float] = []
        self._meanwhile = meanwhile

    def wait(self, timeout: float) -> None:
        self.waited.append(timeout)
        self._meanwhile()

    def set(self) -> None: ...

    def clear(self) -> None: ...


def follow(run: GrowingRun, meanwhile: Callable[[], None]) -> tuple[list[bytes], Clock]:
    """What is handed on, when `meanwhile` happens between two looks."""
    taken: list[bytes] = []
    failures: list[BaseException] = []
    follower = RunFollower(run, taken.append, failures.append)
    clock = Clock(meanwhile)
    follower._wake = clock  # type: ignore[assignment]
    follower._follow()
    assert failures == []
    return taken, clock


def test_it_follows_a_run_from_before_its_first_step_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "run"
    ended = False
    begin: list[Writer] = []

    def grow() -> None:
        nonlocal ended
        if not begin:
            begin.append(Writer(path, info()))
        done = len(clock_steps)
        clock_steps.append(done)
        if done == 3:
            return  # nothing new
        if done == 5:
            begin[0].close()
            ended = True
            return
        begin[0].observe(block(np.ones((10, 2)), first_iteration=10 * done - 10 * (done > 3)))

    clock_steps: list[int] = []
    run = GrowingRun(lambda: path, lambda: not ended, lambda: ended)
    taken, clock = follow(run, grow)
    assert [meta(each)["rows"] for each in taken] == [10, 20, 30, 40, 40]
    assert [meta(each)["run"]["state"] for each in taken] == ["live"] * 4 + ["ended"]
    assert min(clock.waited) >= run_follower.INTERVAL_S  # twice a second at most


def test_it_looks_less_often_where_looking_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_run(tmp_path / "run", [block(np.ones((3, 2)))], ended=False)
    times = iter(range(100))
    monkeypatch.setattr(run_follower.time, "thread_time", lambda: 0.3 * next(times))
    ended: list[int] = []
    run = GrowingRun(lambda: path, lambda: True, lambda: len(ended) > 1)
    taken, clock = follow(run, lambda: ended.append(1))
    assert clock.waited == [pytest.approx(0.3 / run_follower.WORKING_SHARE)] * 2
    assert len(taken) == 1  # it has not grown


def test_where_nothing_is_recorded_it_shows_nothing(tmp_path: Path) -> None:
    looks: list[int] = []
    run = GrowingRun(lambda: None, lambda: True, lambda: len(looks) > 2)
    taken, _ = follow(run, lambda: looks.append(1))
    assert taken == []


def test_a_run_of_another_process_is_followed_until_it_has_ended(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", [block(np.ones((3, 2)))], ended=False)
    run = GrowingRun.on_disk(path)
    assert run.goes_on()
    assert not run.has_ended()
    ended = GrowingRun.on_disk(write_run(tmp_path / "ended", [block(np.ones((3, 2)))]))
    assert not ended.goes_on()
    assert ended.has_ended()


def test_nothing_of_a_notebook_is_imported_unless_a_widget_is_asked_for(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", [block(np.ones((3, 2)))])
    ran = run_python(
        "import sys, json, seismograd\n"
        "run = seismograd.open_run(sys.argv[1]); run._repr_html_(); run.findings\n"
        "from seismograd.views.widget import widget_making, run_follower\n"
        "print(json.dumps([each for each in ('anywidget', 'ipywidgets', 'IPython', 'torch') "
        "if each in sys.modules]))",
        path,
    )
    assert json.loads(ran.stdout) == [], ran.stderr
    # and who records imports only what does not import it
    text = {path: path.read_text("utf-8") for path in PACKAGE_DIR.rglob("*.py")}
    naming = [path.name for path in text if re.search(r"^\s*import anywidget", text[path], re.M)]
    assert naming == ["run_widget.py"]
    at_the_top = re.compile(r"^(from|import) \S*widget\.(run_widget|widget_making)", re.M)
    assert [path.name for path in text if at_the_top.search(text[path])] == []


def test_where_anywidget_is_missing_it_says_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "anywidget", None)
    monkeypatch.delitem(sys.modules, "seismograd.views.widget.run_widget", raising=False)
    run = open_run(write_run(tmp_path / "run", [block(np.ones((3, 2)))]))
    with pytest.raises(SeismogradError) as refused:
        run.widget()
    assert refused.value.line().endswith("pip install 'seismograd[widget]'")


@pytest.fixture
def widgets() -> None:
    pytest.importorskip("anywidget", exc_type=ImportError)


def train(recording: Any, model: Any, optimizer: Any, num_steps: int = 3) -> None:
    import torch

    for _ in range(num_steps):
        optimizer.zero_grad()
        model(torch.ones(2, 4)).square().mean().backward()
        optimizer.step()


def watched(path: Path) -> tuple[Any, Any, Any]:
    import torch

    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return seismograd.watch(model, optimizer, out=path, quiet=True), model, optimizer


@pytest.mark.usefixtures("widgets")
def test_the_widget_of_a_recording_shows_its_end_when_that_is_closed(tmp_path: Path) -> None:
    import torch

    recording, model, optimizer = watched(tmp_path / "run")
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    widget = recording.widget()
    train(recording, model, optimizer)
    recording.close()
    # It draws none of the program's random numbers.
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert torch.get_rng_state().tolist() == before[2]
    assert not widget._follower._thread.is_alive()
    assert meta(widget.answers)["rows"] == 3
    assert meta(widget.answers)["run"]["state"] == "ended"
    again = recording.widget()  # of what is over: without a thread
    assert again.answers == widget.answers
    assert again._follower._thread is None
    assert open_run(tmp_path / "run").widget().answers == widget.answers
    state = widget.get_state()
    assert {"answers", "lang", "_esm"} <= state.keys()
    assert "export default" in state["_esm"]


@pytest.mark.usefixtures("widgets")
def test_a_front_end_that_fails_disturbs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seismograd.views.widget.run_widget import RunWidget

    def refuse(self: object, answers: bytes) -> None:
        raise OSError("the socket is gone")

    monkeypatch.setattr(RunWidget, "_take", refuse)
    recording, model, optimizer = watched(tmp_path / "run")
    widget = recording.widget()
    train(recording, model, optimizer)
    recording.close()
    assert not widget._follower._thread.is_alive()
    assert open_run(tmp_path / "run").num_rows == 3
    assert ["the socket is gone" in each.message.render() for each in recording.failures] == [True]


@pytest.mark.usefixtures("widgets")
def test_a_widget_that_is_closed_gets_nothing_more(tmp_path: Path) -> None:
    recording, model, optimizer = watched(tmp_path / "run")
    widget = recording.widget()
    widget.close()
    widget._follower._thread.join(60)
    assert not widget._follower._thread.is_alive()
    train(recording, model, optimizer)
    recording.close()
    assert widget.answers == b""
    assert open_run(tmp_path / "run").num_rows == 3
