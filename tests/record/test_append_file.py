"""Rows go to the record's own file or nowhere, whatever the script does to descriptors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from seismograd import open_run
from seismograd.record.append_file import AppendFile
from tests.record.processes import run_python


def test_what_is_written_is_appended(tmp_path: Path) -> None:
    file = AppendFile(tmp_path / "a")
    file.write(b"one")
    file.write(memoryview(b"two"))
    assert (tmp_path / "a").read_bytes() == b"onetwo"
    file.close()
    file.close()


def test_a_file_that_exists_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(FileExistsError):
        AppendFile(tmp_path / "a")


def test_a_descriptor_that_the_script_reused_is_neither_written_nor_closed(tmp_path: Path) -> None:
    number = os.open(tmp_path / "probe", os.O_WRONLY | os.O_CREAT)
    os.close(number)
    file = AppendFile(tmp_path / "a")  # the lowest number that is free
    os.close(number)
    theirs = os.open(tmp_path / "theirs", os.O_WRONLY | os.O_CREAT)
    assert theirs == number
    file.write(b"rows")
    file.sync()
    file.write(b" more")
    file.close()
    del file
    assert os.write(theirs, b"checkpoint") == 10
    os.close(theirs)
    assert (tmp_path / "theirs").read_bytes() == b"checkpoint"
    assert (tmp_path / "a").read_bytes() == b"rows more"


@pytest.mark.parametrize("there", ["nothing", "another", "link"])
def test_no_other_file_takes_the_place_of_one_that_is_gone(tmp_path: Path, there: str) -> None:
    number = os.open(tmp_path / "probe", os.O_WRONLY | os.O_CREAT)
    os.close(number)
    file = AppendFile(tmp_path / "a")
    os.close(number)
    (tmp_path / "a").rename(tmp_path / "moved")
    (tmp_path / "theirs").write_bytes(b"theirs")
    if there == "another":
        (tmp_path / "a").write_bytes(b"another")
    elif there == "link":
        (tmp_path / "a").symlink_to(tmp_path / "theirs")
    with pytest.raises(OSError):  # noqa: PT011  whichever the system says
        file.write(b"rows")
    file.close()
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    assert (tmp_path / "moved").read_bytes() == b""


def test_a_script_that_closes_all_descriptors_keeps_its_record(tmp_path: Path) -> None:
    """As one does that becomes a daemon: its files stay its own, and no step is lost."""
    code = """
import os, sys
from pathlib import Path
from seismograd.record.writer import Writer
from tests import synthetic
from tests.record.processes import endless_block

writer = Writer(Path(sys.argv[1]), synthetic.info())
writer.observe(endless_block(0, 5))
os.closerange(3, 256)
theirs = [os.open(f"{sys.argv[1]}.{number}", os.O_WRONLY | os.O_CREAT) for number in range(60)]
for first in range(5, 50, 5):
    writer.observe(endless_block(first, 5))
    writer.note(synthetic.note())
writer.close()
print(sum(os.fstat(each).st_size for each in theirs))
"""
    done = run_python(code, tmp_path / "run")
    assert (done.stdout, done.stderr) == ("0\n", "")
    run = open_run(tmp_path / "run")
    assert (run.num_rows, run.ended, run.torn) == (50, True, None)
