"""Trackio: a run of ours in a project, in Trackio's own database on this machine."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from importlib import import_module

from seismograd.sinks.tracker import PREFIX, Alert, RunStart, TrackedStep

_LEVELS = {"error": "error", "warning": "warn", "info": "info"}
_FLUSH_S = 0.5  # a transaction for each step would be slow


class TrackioTracker:
    """Writes a run beside the script's, in the project `target`, into the database that Trackio's
    dashboard reads: `trackio.init`, `alert` and `finish` print, and the output is the script's.
    Trackio takes NaN and infinities, and histograms as raw buckets.
    """

    def __init__(self, target: str) -> None:
        self._project = target or "seismograd"
        trackio = import_module("trackio")
        self._histogram = trackio.Histogram
        self._storage = trackio.SQLiteStorage
        self._serialize = import_module("trackio.utils").serialize_values
        self._name, self._id = "", uuid.uuid4().hex
        self._config: dict[str, object] | None = {}
        self._waiting: list[tuple[int, str, dict[str, object]]] = []
        self._flushed_s = 0.0

    def begin(self, run: RunStart) -> None:
        """Take the name of the run."""
        self._name = run.directory().name
        self._config = {
            "script": run.script,
            "torch": run.torch_version,
            "_Created": datetime.now(UTC).isoformat(),
        }

    def log(self, measurement: TrackedStep) -> None:
        """Write a step, with those that wait."""
        found: dict[str, object] = {
            PREFIX + name: value for name, value in measurement.scalars.items()
        }
        if measurement.worst_layer:
            found[PREFIX + "worst_layer"] = measurement.worst_layer
        for name, each in measurement.histograms.items():
            made = self._histogram(np_histogram=(each.counts, each.edges))
            found[PREFIX + name] = made._to_dict()
        now = datetime.now(UTC).isoformat()
        self._waiting.append((measurement.step, now, self._serialize(found)))
        if time.monotonic() - self._flushed_s >= _FLUSH_S:
            self._flush()

    def alert(self, alert: Alert) -> None:
        """Write a finding as an alert."""
        self._storage.bulk_alert(
            self._project,
            self._name,
            [f"{alert.code} {alert.name}"],
            [alert.text],
            [_LEVELS[alert.severity]],
            [alert.step],
            run_id=self._id,
        )

    def close(self) -> None:
        """Write what waits."""
        self._flush()

    def _flush(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            steps, times, rows = (list(each) for each in zip(*waiting, strict=True))
            self._storage.bulk_log(
                self._project,
                self._name,
                rows,
                steps=steps,
                timestamps=times,
                config=self._config,
                run_id=self._id,
            )
            self._config = None  # once
        self._flushed_s = time.monotonic()
