"""`watch` in a cell of a notebook: run twice, it records twice and never twice at once."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from seismograd.capture.hub import HUB
from seismograd.record.reader import open_run
from tests.documented_code import code_in
from tests.views.test_widget import meta

CELL = """
import torch, seismograd
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
recording = seismograd.watch(model, optimizer, out=OUT, quiet=True)
"""
TRAIN = """
for _ in range(3):
    optimizer.zero_grad()
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
"""


class Shell:
    """Runs cells as IPython does: compiled under a name of their own, their lines known."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
        self.names: dict[str, object] = {"__name__": "__main__"}
        self.count = 0

    def run_cell(self, text: str) -> None:
        import linecache

        self.count += 1
        name = f"<ipython-input-{self.count}-0123456789ab>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        exec(compile(text, name, "exec"), self.names)


def check_cells(run_cell: object, tmp_path: Path, names: dict[str, object]) -> None:
    assert callable(run_cell)
    names["OUT"] = str(tmp_path / "run")
    run_cell(CELL)
    run_cell(TRAIN)
    first = names["recording"]
    run_cell(CELL)
    assert "closed" in repr(first)
    run_cell(TRAIN)
    run_cell(CELL)
    run_cell("recording.close()")
    assert not HUB.listening
    assert [open_run(tmp_path / each).num_rows for each in ("run", "run-2")] == [3, 3]
    run_cell(CELL.replace("quiet", "budget=0.5, quiet").replace("OUT", "OUT + '-other'"))
    run_cell("with seismograd.watch(model, optimizer, out=OUT + '-both', quiet=True): pass")
    assert "open" in repr(names["recording"])  # another line is another recording
    run_cell("recording.close()")
    assert not HUB.listening


def test_a_cell_that_runs_again_ends_what_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Shell(monkeypatch)
    check_cells(shell.run_cell, tmp_path, shell.names)


@pytest.mark.extended
@pytest.mark.filterwarnings("ignore")  # theirs
def test_the_same_in_ipython(tmp_path: Path) -> None:
    pytest.importorskip("IPython", exc_type=ImportError)
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()

    def run_cell(text: str) -> None:
        shell.run_cell(text, store_history=True).raise_error()

    check_cells(run_cell, tmp_path, shell.user_ns)


def test_a_script_that_watches_twice_is_refused_as_before(tmp_path: Path) -> None:
    import seismograd

    with seismograd.watch(out=tmp_path / "run", quiet=True):
        pass
    (tmp_path / "run" / "theirs").write_text("")
    with pytest.raises(seismograd.SeismogradError):
        seismograd.watch(out=tmp_path / "run", quiet=True)


def cells_of_the_page() -> list[str]:
    return code_in("notebooks.md", "python")


def test_the_cells_of_the_page_show_a_run_and_may_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("anywidget", exc_type=ImportError)
    monkeypatch.chdir(tmp_path)
    shell = Shell(monkeypatch)
    begin, train, close, show = cells_of_the_page()
    for cell in (begin, train, begin, train, close):
        shell.run_cell(cell)
    assert not HUB.listening
    shell.run_cell(show.replace("seismograd.open", "shown = seismograd.open"))
    assert len(shell.names["shown"].answers) > 5000  # type: ignore[attr-defined]
    for name in ("first", "first-2"):
        run = open_run(tmp_path / "runs" / name)
        assert (run.num_rows, run.ended) == (200, True)


def test_the_chinese_page_has_the_same_cells() -> None:
    assert code_in("zh/notebooks.md", "python") == cells_of_the_page()


@pytest.mark.extended
@pytest.mark.filterwarnings("ignore")  # theirs
def test_in_a_kernel_the_widget_grows_while_a_cell_trains_and_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cells of the page in a real kernel, each but the last run twice."""
    for package in ("anywidget", "ipykernel", "nbclient", "nbformat"):
        pytest.importorskip(package, exc_type=ImportError)
    import nbclient
    import nbformat

    kernel = tmp_path / "kernels" / "here"
    kernel.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": command, "display_name": "here", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    begin, train, close, show = cells_of_the_page()
    slow = train.replace("optimizer.step()", "optimizer.step()\n    time.sleep(0.02)")
    cells = [begin, "import time\n" + slow, begin, train, close, show]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in cells])
    arrived: list[tuple[int, int]] = []

    class Client(nbclient.NotebookClient):
        def handle_comm_msg(self, outs: Any, msg: Any, cell_index: int) -> None:
            size = sum(len(each) for each in msg.get("buffers", []))
            if size and msg["msg_type"] == "comm_msg":
                arrived.append((cell_index, size))
            super().handle_comm_msg(outs, msg, cell_index)

    Client(
        book,
        kernel_name="here",
        timeout=300,
        store_widget_state=True,
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    while_training = [size for cell, size in arrived if cell == 1]
    assert len(while_training) >= 1  # before the cell was done
    assert len(while_training) < 30
    assert max(size for _, size in arrived) < 400_000
    for cell in (0, 2, 5):
        (shown,) = book.cells[cell].outputs
        assert "application/vnd.jupyter.widget-view+json" in shown["data"]
    state = book.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    saved = [
        base64.b64decode(buffer["data"])
        for each in state.values()
        for buffer in each.get("buffers", [])
        if buffer["path"] == ["answers"]
    ]
    assert len(saved) == 3  # two recordings, and the run that was opened
    for name in ("first", "first-2"):
        run = open_run(tmp_path / "runs" / name)
        assert (run.num_rows, run.ended) == (200, True)
    assert [(meta(each)["rows"], meta(each)["run"]["state"]) for each in saved] == [
        (200, "ended")
    ] * 3
