"""The process that sends a record: it is no child of the training and takes nothing from it, and
goes on when that is killed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from seismograd import SeismogradError, open_run
from seismograd.cli import main
from seismograd.record.places.place_url import PlaceUrl
from seismograd.record.places.running_upload import RunningUpload
from seismograd.record.places.upload_now import upload_now
from seismograd.record.places.upload_status import UploadState, read_status
from seismograd.record.places.watched_process import is_at_work, start_of
from seismograd.record.writer import Writer
from tests import synthetic
from tests.record.places.stores import stores
from tests.record.processes import endless_block, python_at_work, run_python
from tests.record.test_killed import assert_is_a_beginning

__all__ = ["stores"]
pytestmark = pytest.mark.usefixtures("stores")

WRITE_TO_A_PLACE = """
import sys
from pathlib import Path
from seismograd.record.places.run_target import run_target
from seismograd.record.writer import Writer
from tests import synthetic
from tests.record.processes import endless_block

path, upload = run_target(sys.argv[1], spool=sys.argv[2]).begin("train.py")
writer = Writer(path, synthetic.info())
iteration = 0
while True:
    writer.observe(endless_block(iteration, 7))
    iteration += 7
    print(iteration, flush=True)
"""


def eventually(holds: Callable[[], bool]) -> None:
    """Wait for another process: as long as it takes, but not for ever."""
    for _ in range(6000):
        if holds():
            return
        time.sleep(0.02)
    pytest.fail("it never happened")


def has_state(path: Path, state: UploadState) -> bool:
    status = read_status(path)
    return status is not None and status.state == state


def num_rows_at(url: str) -> int:
    """How many rows a place has; -1 before anything of the record is there."""
    try:
        return open_run(url).num_rows
    except SeismogradError as error:
        if "no run at" not in str(error):
            raise
        return -1


def test_what_a_killed_program_recorded_reads_back_at_the_place(tmp_path: Path) -> None:
    url = (tmp_path / "store" / "one").as_uri()
    with python_at_work(WRITE_TO_A_PLACE, url, tmp_path / "spool") as process:
        flushed = int(process.stdout.readline())
        eventually(lambda: num_rows_at(url) >= flushed)
        process.kill()
        process.wait()
    run = open_run(url)  # maybe while the rest is sent
    assert len(run.steps) >= flushed
    assert_is_a_beginning(run)
    spool = tmp_path / "spool" / "one"
    eventually(lambda: has_state(spool, UploadState.COMPLETE))
    whole, at_place = open_run(spool), open_run(url)
    assert len(at_place.steps) == len(whole.steps)
    assert_is_a_beginning(at_place)
    assert open_run(tmp_path / "store" / "one").num_rows == len(whole.steps)  # plain files


WRITE_AND_FINISH = """
import os, random, sys
from pathlib import Path
from seismograd.record.places.run_target import run_target

before = random.getstate()
path, upload = run_target(sys.argv[1], spool=sys.argv[2], wait_s=60.0).begin("train.py")
assert random.getstate() == before
assert not {"fsspec", "numpy"} & set(sys.modules), "a script may set up what they read"
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child")

from seismograd.record.writer import Writer
from tests import synthetic
from tests.record.processes import endless_block

writer = Writer(path, synthetic.info())
writer.observe(endless_block(0, 9))
writer.close()
print(upload.finish(path).render())
"""


def test_an_upload_is_no_child_and_draws_no_random_numbers(tmp_path: Path) -> None:
    url = (tmp_path / "store" / "one").as_uri()
    done = run_python(WRITE_AND_FINISH, url, tmp_path / "spool")
    assert done.stderr == ""
    assert done.stdout == f"no child\nthe record is also at {url}\n"
    assert open_run(tmp_path / "store" / "one").num_rows == 9


GO_ON = """
import sys
from pathlib import Path
from seismograd.record.places.run_target import upload_again

path = Path(sys.argv[1])
upload = upload_again(path, 60.0)
assert "numpy" not in sys.modules
if sys.argv[2] == "20":
    from seismograd.record.resuming import resume_record
    from tests import synthetic
    from tests.record.processes import endless_block

    writer = resume_record(path, 20, synthetic.make_parameters(5)).writer
    writer.observe(endless_block(20, 30))
    writer.close()
said = upload.finish(path)
print("" if said is None else said.render())
"""


def test_a_record_that_goes_on_is_sent_to_its_place(tmp_path: Path) -> None:
    url, path = (tmp_path / "store" / "one").as_uri(), tmp_path / "one"
    writer = Writer(path, synthetic.info())
    writer.observe(endless_block(0, 40))
    writer.close()
    upload_now(path, PlaceUrl(url), lambda done, total: None)
    refused = run_python(GO_ON, path, "0")  # nothing is recorded, and nobody waits
    assert (refused.stderr, refused.stdout) == ("", "\n")
    assert open_run(url).num_rows == 40
    done = run_python(GO_ON, path, "20")
    assert (done.stderr, done.stdout) == ("", f"the record is also at {url}\n")
    run = open_run(url)
    assert (run.num_rows, len(run.branches), run.ended) == (50, 1, True)
    assert_is_a_beginning(run)


REGISTERED = """
import sys, fsspec
from tests.record.places.stores import OtherDirectories

fsspec.register_implementation("mine", OtherDirectories)
"""


def test_a_place_that_the_program_registered_is_known_to_the_upload(tmp_path: Path) -> None:
    url = f"mine://{tmp_path}/store/one"
    ours = WRITE_AND_FINISH.replace('assert not {"fsspec", "numpy"}', "assert {'fsspec', 'numpy'}")
    done = run_python(REGISTERED + ours, url, tmp_path / "spool")
    assert (done.stderr, done.stdout) == ("", f"no child\nthe record is also at {url}\n")
    assert open_run(tmp_path / "store" / "one").num_rows == 9


def test_an_upload_that_hangs_ends_after_its_training() -> None:
    code = (
        "from seismograd.record.places.upload_process import end_with; end_with(2**22 + 1, '1', 0)"
    )
    assert run_python(code).returncode == 1


def test_an_upload_that_has_died_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "one"
    path.mkdir()
    upload = RunningUpload(path, PlaceUrl((tmp_path / "store" / "one").as_uri()), 3600.0)
    assert upload.process > 1
    os.kill(upload.process, 9)
    writer = Writer(path, synthetic.info())
    writer.observe(endless_block(0, 9))
    writer.close()
    said = upload.finish(path)
    assert said is not None
    assert "this sends the rest: seismograd upload" in said.render()


def test_a_place_that_cannot_be_written_is_said_with_the_command_that_sends_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANGUAGE", "en")
    Path("store").write_text("a file where a directory is needed")
    path = tmp_path / "runs" / "one"
    path.mkdir(parents=True)
    url = (tmp_path / "store" / "one").as_uri()
    upload = RunningUpload(path, PlaceUrl(url), 0.0)
    writer = Writer(path, synthetic.info())
    writer.observe(endless_block(0, 9))
    writer.close()
    said = upload.finish(path)
    assert said is not None
    assert said.render().startswith(f"not all of the record is at {url} yet")
    assert said.render().endswith(f"; this sends the rest: seismograd upload runs/one {url}")
    eventually(lambda: has_state(path, UploadState.FAILING))
    assert upload.process > 1
    os.kill(upload.process, 9)
    eventually(lambda: start_of(upload.process) is None)
    assert main(["upload", "one", url]) == 2
    assert f"cannot write to {url}" in capsys.readouterr().err
    Path("store").unlink()
    assert main(["upload", "one"]) == 0  # where it was going
    assert main(["check", url]) == 0
    assert main(["runs", (tmp_path / "store").as_uri()]) == 0
    assert "one" in capsys.readouterr().out


def test_a_process_is_told_from_another_one_with_its_number() -> None:
    start = start_of(os.getpid())
    assert start is not None
    assert is_at_work(os.getpid(), start)
    ended = int(run_python("import os; print(os.getpid())").stdout)
    assert not is_at_work(ended, start)
