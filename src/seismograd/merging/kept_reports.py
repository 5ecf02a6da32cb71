"""Read the reports that the processes of a training kept because they could not be sent."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seismograd.distributed.exchanges import Exchange
from seismograd.distributed.ownership import RankView
from seismograd.distributed.rank_report import RankColumns, RankReport, report_head
from seismograd.distributed.report_frames import FrameKind
from seismograd.record.recorded_files import open_file
from seismograd.record.report_file import read_messages, report_files


@dataclass(slots=True)
class KeptReports:
    """What one process kept of one world (`training`) of processes: the reports by their index,
    each as its place in the file.

    `is_whole`: the file has an end; the process was not killed, and nothing is damaged.
    """

    run: Path
    file: Path
    training: str
    rank: int
    size: int
    layout: str
    is_whole: bool = False
    notes: list[str] = field(default_factory=list[str])
    exchanges: list[tuple[int, Exchange]] = field(default_factory=list[tuple[int, Exchange]])
    _columns: dict[int, RankColumns] = field(default_factory=dict[int, RankColumns])
    _left: dict[int, frozenset[int]] = field(default_factory=lambda: {0: frozenset[int]()})
    _places: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])
    _bytes: Any = None

    @property
    def indices(self) -> list[int]:
        """Return the iterations that are reported, counted since the processes joined."""
        return sorted(self._places)

    def take(self, kind: FrameKind, start: int, payload: bytes) -> None:
        """Take the next message of the file."""
        if kind is FrameKind.COLUMNS:
            columns = RankColumns.from_json(payload)
            self._columns[columns.version] = columns
        elif kind is FrameKind.LEAVE:
            left = json.loads(payload)
            self._left[int(left["number"])] = frozenset(map(int, left["columns"]))
        elif kind is FrameKind.REPORT:
            self._places[report_head(payload)[0]] = (start, len(payload))
        elif kind is FrameKind.EXCHANGE:
            next_index = max(self._places, default=-1) + 1
            self.exchanges.append((next_index, Exchange(int(payload))))
        elif kind is FrameKind.NOTE:
            self.notes.append(payload.decode(errors="replace"))
        elif kind is FrameKind.END:
            self.is_whole = True

    def view(self, index: int) -> tuple[RankView, frozenset[int]] | None:
        """Return what is reported of an iteration, and the columns that are left out of it; `None`
        where nothing is.
        """
        if index not in self._places:
            return None
        start, length = self._places[index]
        if self._bytes is None:
            self._bytes = os.fdopen(open_file(self.file), "rb")
        self._bytes.seek(start)
        payload = self._bytes.read(length)
        _, version, leave = report_head(payload)
        columns, left_out = self._columns[version], self._left[leave]
        sent = columns.sent(left_out)
        report = RankReport.from_bytes(payload, columns, sent)
        return RankView(self.rank, columns, sent, report), left_out

    def step_of(self, index: int) -> int:
        """Return the number of the step that an iteration is in the record of its process."""
        found = self.view(index)
        assert found is not None
        return int(found[0].report.step["iteration"])

    def exchange(self, index: int) -> Exchange:
        """Return what the processes had exchanged up to an iteration."""
        known = [value for first, value in self.exchanges if first <= index]
        return known[-1] if known else Exchange.NOTHING

    def close(self) -> None:
        """Close the file."""
        if self._bytes is not None:
            self._bytes.close()
            self._bytes = None


def read_kept(run: Path) -> tuple[KeptReports, ...]:
    """Return what the files of reports in a record hold.

    Raises:
        SeismogradError: one is not a regular file.
        ValueError, KeyError, TypeError: one is not what seismograd writes.
    """
    return tuple(kept for file in report_files(run) for kept in _read(run, file))


def _read(run: Path, file: Path) -> Iterator[KeptReports]:
    kept: dict[str, KeptReports] = {}
    current: KeptReports | None = None
    for message in read_messages(file):
        if message is None:  # the rest is damaged, or the process was killed while it wrote
            break
        kind = FrameKind(message.kind)
        if kind is FrameKind.HELLO:
            hello = json.loads(message.payload)
            current = KeptReports(
                run,
                file,
                str(hello["training"]),
                int(hello["rank"]),
                int(hello["size"]),
                str(hello["layout"]),
            )
            current = kept.setdefault(current.training, current)
        elif current is None:
            raise ValueError("no beginning")
        else:
            current.take(kind, message.start, message.payload)
    yield from kept.values()
