"""`watch` in a cell of a notebook: run twice, it records twice and never twice at once."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from seismograd.capture.hub import HUB
from seismograd.record.reader import open_run

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
