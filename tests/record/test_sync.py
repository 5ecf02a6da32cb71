"""With `--sync` everything written so far is on the disk every few seconds, `steps.bin` last."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from seismograd.errors import SeismogradError
from seismograd.record import layout
from seismograd.record.reader import open_run
from seismograd.record.writer import Writer
from seismograd.settings.record_settings import RecordSettings, check_sync
from tests import synthetic


def written(path: Path, settings: RecordSettings, num_blocks: int) -> Writer:
    writer = Writer(path, synthetic.info(), settings)
    for start in range(num_blocks):
        writer.observe(synthetic.block(np.ones((4, 2)), first_iteration=4 * start))
        writer.note(synthetic.note())
    return writer


def test_every_file_is_waited_for_and_the_steps_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda fd: waited.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
    )
    writer = written(tmp_path / "run", RecordSettings(sync_s=1e-9), 5)
    files = {str(path) for path in (tmp_path / "run").rglob("*") if path.is_file()}
    unneeded = {str(tmp_path / "run" / name) for name in ("README.txt", layout.LOCK)}
    assert files - set(waited) == unneeded
    steps = str(tmp_path / "run" / "steps.bin")
    turns = " ".join(waited).split(steps)
    assert len(turns) == 6
    writer.close()
    assert str(tmp_path / "run" / "end.json") in waited


def test_without_it_nothing_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: pytest.fail("waited"))
    written(tmp_path / "run", RecordSettings(), 3).close()
    assert open_run(tmp_path / "run").num_rows == 12


def test_a_disk_that_rejects_it_ends_the_record_and_keeps_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reject(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", reject)
    with pytest.raises(OSError, match="Input/output"):
        written(tmp_path / "run", RecordSettings(sync_s=1e-9), 3)
    assert open_run(tmp_path / "run").num_rows == 4


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_seconds_that_are_none_are_refused(seconds: float) -> None:
    with pytest.raises(SeismogradError, match="--sync"):
        check_sync(seconds)
