"""The line at the bottom of the terminal: there while a script runs, gone afterwards, and
nothing of what the script prints is changed.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from seismograd.cli.terminal.progress_line import ProgressLine, progress_text
from seismograd.schema import Finding
from tests import synthetic
from tests.record.processes import ENVIRONMENT

OURS = re.compile(rb"(?:\x1bD\x1bM)?\x1b7.*?\x1b8", re.DOTALL)

TRAIN = """
import sys, time
import torch
torch.manual_seed(0)
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(12):
    optimizer.zero_grad()
    loss = model(torch.randn(8, 4)).square().mean()
    loss.backward()
    optimizer.step()
    print(step, loss.item(), end=" half ", flush=True)
    time.sleep(0.08)
    print("line", file=sys.stderr)
"""


def in_terminal(command: list[str], cwd: Path, **changes: str) -> bytes:
    """What a terminal gets from a command."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    environment = {**ENVIRONMENT, "TERM": "xterm", "LANGUAGE": "en", **changes}
    environment.pop("WORLD_SIZE", None)
    with subprocess.Popen(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave
    ) as process:
        os.close(slave)
        got = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            got += piece
        process.wait(60)
    os.close(master)
    return got


def test_the_line_leaves_the_output_of_a_script_as_it_was(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "train.py").write_text(TRAIN, "utf-8")
    plain = in_terminal([sys.executable, "train.py"], tmp_path)
    watched = in_terminal([sys.executable, "-m", "seismograd", "run", "train.py"], tmp_path)
    assert b"norm" in b"".join(OURS.findall(watched))
    rest = OURS.sub(b"", watched)
    assert rest.startswith(plain)
    assert b"seismograd  " in rest[len(plain) :][:40]
    assert OURS.findall(watched)[-1].startswith(b"\x1b7\x1b[r")  # the row was given back
    quiet = in_terminal(
        [sys.executable, "-m", "seismograd", "run", "--quiet", "-o", "q", "train.py"], tmp_path
    )
    assert quiet == plain


@pytest.mark.parametrize("dumb", [{"TERM": "dumb"}, {"WORLD_SIZE": "2"}])
def test_there_is_no_line_where_it_would_be_in_the_way(
    dumb: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from seismograd.cli.terminal.progress_line import may_show

    class Terminal:
        closed = False

        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "__stdout__", Terminal())
    monkeypatch.setattr(sys, "__stderr__", Terminal())
    assert may_show({"TERM": "xterm"})
    assert not may_show({"TERM": "xterm"} | dumb)
    monkeypatch.setattr(sys, "__stdout__", None)
    assert not may_show({"TERM": "xterm"})


def test_a_finding_is_in_the_line_as_soon_as_there_is_one() -> None:
    found: list[Finding] = []
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    line = ProgressLine(slave, "en", lambda: found)
    line.observe(synthetic.block([[1.0]]))
    assert b"SG" not in os.read(master, 4096)
    found.append(synthetic.finding(code="SG999", first_step=7))
    line.observe(synthetic.block([[1.0]], first_iteration=8))
    said = os.read(master, 4096)
    assert b"SG999" in said
    assert b"step 7" in said
    termios.tcsetwinsize(slave, (3, 80))  # too small for a row of ours
    line.observe(synthetic.block([[1.0]], first_iteration=9))
    line.close()
    assert os.read(master, 4096).startswith(b"\x1b7\x1b[r")
    os.close(master)
    os.close(slave)


KILLED = """
import os, signal, sys
from seismograd.cli.terminal.progress_line import ProgressLine
from tests import synthetic
line = ProgressLine(2, "en", lambda: [])
line.observe(synthetic.block([[1.0]]))
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
line.close()
try:
    os.wait()
except ChildProcessError:
    print("no child")
"""


def test_a_script_that_is_killed_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    """Reading ends when nobody holds the terminal any more: nothing of ours outlives the script
    either.
    """
    got = in_terminal([sys.executable, "-c", KILLED, "killed"], tmp_path)
    assert got.endswith(b"\x1b7\x1b[r\x1b[999;1H\x1b[2K\x1b8")
    got = in_terminal([sys.executable, "-c", KILLED, "ended"], tmp_path)
    assert b"999" not in got
    assert got.endswith(b"\x1b7\x1b[r\x1b[24;1H\x1b[2K\x1b8no child\r\n")


@pytest.mark.parametrize("width", [5, 20, 40, 79, 200])
def test_the_line_fits_the_terminal(width: int) -> None:
    from seismograd.views.text_layout import cell_width

    text = progress_text(
        synthetic.block([[float("nan")]]), [synthetic.finding(name="梯度" * 50)] * 3, width
    )
    assert cell_width(re.sub(r"\x1b\[\d*m", "", text)) <= width
