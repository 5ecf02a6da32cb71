"""Rows go to the record's own file or nowhere, whatever the script does to descriptors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from seismograd.record.append_file import AppendFile


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
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.write(b"rows")
    file.close()
    del file
    assert os.write(theirs, b"checkpoint") == 10
    os.close(theirs)
    assert (tmp_path / "theirs").read_bytes() == b"checkpoint"
    assert (tmp_path / "a").read_bytes() == b""
