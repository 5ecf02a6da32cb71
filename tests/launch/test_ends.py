"""`seismograd run` ends as `python` does, whatever threads, pools and processes there are;
docs/ends.md says what was tried.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tools.ends_table import PAGE, page

import seismograd
from tests.launch.ends import ENDS, INTERRUPTED, LOOP, End

TIMEOUT_S = 120
# One of each kind: an end of the main thread, threads, pools, processes and an event loop. Not a
# daemon thread that still trains: at its end python itself aborts now and then, without us too.
EACH_TIME = {
    "a call at exit after an exception",
    "a thread that goes on training",
    "a ProcessPoolExecutor left open",
    "a child process made by os.fork that exits with sys.exit",
    "a DataLoader with persistent workers",
    "an asyncio loop left open",
}
OURS = ("-m", "seismograd", "run", "--quiet", "--out", "record")

# Where the tests themselves run in the background of a shell, what they start would ignore Ctrl-C.
LET_INTERRUPT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def ended(folder: Path, sent: int, *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a program that has ended, and everything it started that
    holds these.
    """
    command = [sys.executable, "-c", LET_INTERRUPT, *words]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            said = ""
            if sent:
                assert process.stdout is not None
                while "ready" not in (line := process.stdout.readline()) and line:
                    said += line
                said += line
                process.send_signal(sent)
            out, err = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"{' '.join(words)} never ended")
    return process.returncode, said + out, err


def comparable(err: str, interrupted: bool) -> str:
    """What was written to stderr, without addresses and, where a signal came at any moment,
    without where it came.
    """
    err = re.sub(r"0x[0-9a-f]+", "0x", err)
    if interrupted and "Traceback" in err:
        lines = err.splitlines()
        return "\n".join([lines[0], *(line for line in lines if re.match(r"[A-Z]\w*", line))])
    return err


def test_each_that_is_tried_each_time_is_in_the_list() -> None:
    assert {end.name for end in ENDS} >= EACH_TIME


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals and processes of POSIX")
@pytest.mark.parametrize(
    "end",
    [
        pytest.param(end, id=end.name, marks=() if end.name in EACH_TIME else pytest.mark.extended)
        for end in ENDS
    ],
)
def test_it_ends_as_python_does(end: End, tmp_path: Path) -> None:
    if "joblib" in end.text:
        pytest.importorskip("joblib")
    (tmp_path / "loop.py").write_text(LOOP, "utf-8")
    (tmp_path / "script.py").write_text(textwrap.dedent(end.text), "utf-8")
    bare = ended(tmp_path, end.sent, "script.py")
    ours = ended(tmp_path, end.sent, *OURS, "script.py")
    assert ours[:2] == bare[:2]
    assert comparable(ours[2], bool(end.sent)) == comparable(bare[2], bool(end.sent))
    assert bare[0] in ((end.code, 1) if end.code == INTERRUPTED else (end.code,))
    record = tmp_path / "record"
    if end.record_ends:
        run = seismograd.open_run(record)
        assert run.ended
        assert not [note for note in run.notes if note.kind == "failure"]
        assert len(run.steps) == end.steps or (end.steps is None and len(run.steps) >= 2)
    elif (record / "steps.bin").exists():  # what was on disk reads back
        seismograd.open_run(record)


def test_the_documented_ends_are_those_that_are_tested() -> None:
    text = PAGE.read_text(encoding="utf8")
    assert page(text) == text, "python tools/ends_table.py"
    assert len({end.name for end in ENDS}) == len(ENDS) >= 50
