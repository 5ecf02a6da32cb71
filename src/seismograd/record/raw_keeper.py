"""Remove raw values that are older than a number of steps, except those around findings; the
pyramid keeps what they come to.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seismograd.record import layout
from seismograd.record.seals import dumps_sealed
from seismograd.record.segment_documents import RemovedPart, removed_to_json
from seismograd.schema import Finding, RowBatch

if TYPE_CHECKING:
    from seismograd.record.reader import Run

_AROUND = 100  # steps before and after a finding
_SMALLEST_PART, _LARGEST_PART = 64, 2**16
_PARTS = 4  # of the steps that are kept at least


@dataclass
class RowsOfPart:
    """Which steps a part of the raw values of a segment holds."""

    segment: Path
    index: int
    num_rows: int = 0
    first_step: int = -1
    last_step: int = -1

    def extend(self, batch: RowBatch) -> None:
        """Count rows that were appended to it."""
        iterations = batch.steps["iteration"]
        if not self.num_rows:
            self.first_step = int(iterations[0])
        self.last_step = int(iterations[-1])
        self.num_rows += len(batch)


class RawKeeper:
    """Decides which parts stay: of the last `num_kept` steps, and around where findings were first
    seen.
    """

    def __init__(self, num_kept: int) -> None:
        self._num_kept = num_kept
        self._found: list[tuple[int, int]] = []
        self._parts: list[RowsOfPart] = []

    @property
    def rows_per_part(self) -> int:
        """Return how many rows are removed at once: whole cells of the pyramid."""
        rows = min(max(self._num_kept // _PARTS, _SMALLEST_PART), _LARGEST_PART)
        return -(-rows // _SMALLEST_PART) * _SMALLEST_PART

    def finding(self, finding: Finding) -> None:
        """Keep what is around a finding."""
        for step in (finding.first_step, finding.last_step):
            self._found.append((step - _AROUND, step + _AROUND))

    def go_on(self, run: Run) -> None:
        """Take the parts of a record that goes on. The last one has rows of which no level has a
        summary, so it stays.
        """
        for segment, first, stop in run.intact.spans():
            size = segment.info.rows_per_part
            for part, begin, end in segment.pieces(0, stop - first) if size else ():
                steps = run.row_reader.steps(first + begin, first + end)["iteration"]
                place = part.first // size, end - begin, int(steps[0]), int(steps[-1])
                self._parts.append(RowsOfPart(segment.path, *place))
        if self._parts and run.intact.segments[-1].info.rows_per_part:
            self._parts.pop()

    def remove_old(self, closed: list[RowsOfPart], last_step: int) -> None:
        """Take the parts that were closed, and remove those that are too old by now.

        Raises:
            OSError: the disk rejects it.
        """
        self._parts += closed
        closed.clear()
        while self._parts and self._parts[0].last_step <= last_step - self._num_kept:
            part = self._parts.pop(0)
            if not any(
                low <= part.last_step and part.first_step <= high for low, high in self._found
            ):
                _remove(part)


def _remove(part: RowsOfPart) -> None:
    """Remove the files of a part; first it is told, so that nothing that is half removed counts."""
    with (part.segment / layout.REMOVED).open("ab") as file:
        line = removed_to_json(RemovedPart(part.index, part.num_rows))
        file.write(dumps_sealed(line) + b"\n")
    path = layout.part_path(part.segment, part.index)
    for file in path.iterdir():
        file.unlink()
    path.rmdir()
