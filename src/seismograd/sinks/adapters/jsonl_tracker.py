"""A file with a line of JSON for each step and each finding."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO

from seismograd.record import strict_json
from seismograd.sinks.tracker import Alert, RunStart, TrackedStep


class JsonlTracker:
    """Appends to the file at `target`; by default it lies beside the run, and is called as that is,
    with `.jsonl`. NaN and the infinities are the strings "nan", "inf" and "-inf".
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._file: IO[bytes] | None = None

    def begin(self, run: RunStart) -> None:
        """Open the file and say which run follows."""
        directory = run.directory()
        beside = directory.with_name(f"{directory.name}.jsonl")
        path = Path(self._target) if self._target else beside
        self._file = path.open("ab", buffering=0)
        self._write({"run": str(directory), "script": run.script, "created_utc": run.created_utc})

    def log(self, measurement: TrackedStep) -> None:
        """Write a step."""
        worst = {"worst_layer": measurement.worst_layer} if measurement.worst_layer else {}
        self._write(
            {"step": measurement.step, "time_s": measurement.time_s}
            | dict(measurement.scalars)
            | worst
        )

    def alert(self, alert: Alert) -> None:
        """Write a finding."""
        self._write(
            {
                "finding": alert.code,
                "name": alert.name,
                "severity": alert.severity,
                "step": alert.step,
                "text": alert.text,
            }
        )

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _write(self, line: Mapping[str, object]) -> None:
        assert self._file is not None
        self._file.write(strict_json.dumps(line) + b"\n")
