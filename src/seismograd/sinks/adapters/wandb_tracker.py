"""Weights & Biases: the script's own run where there is one, otherwise a run of ours."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from seismograd.sinks.tracker import (
    PREFIX,
    STEP,
    Alert,
    RunStart,
    TrackedStep,
    TrackerEndedError,
)

_LEVELS = {"error": "ERROR", "warning": "WARN", "info": "INFO"}


class WandbTracker:
    """Logs to the script's run, with a step axis of our own; `target` is the project of a run of
    ours.

    Into the script's run nothing is committed: our numbers go with the row that it logs next, so
    that its steps stay as it counts them. W&B takes NaN and infinities.
    """

    ends_at_exit = True  # W&B ends its service before the last steps

    def __init__(self, target: str) -> None:
        self._project = target or "seismograd"
        self._run: Any = None
        self._is_ours = False
        self._histogram: Any = None

    def begin(self, run: RunStart) -> None:
        """Find the script's run, or begin one that the script does not see."""
        wandb = import_module("wandb")
        self._histogram = wandb.Histogram
        self._run = wandb.run
        if self._run is None:
            self._is_ours = True
            self._run = wandb.init(
                project=self._project,
                name=run.directory().name,
                config={"script": run.script, "torch": run.torch_version},
                # Not `wandb.run`: a script that calls `init` later gets its own.
                reinit="create_new",
                # Nothing of the script's: neither its output nor its code nor its signals.
                settings=wandb.Settings(console="off", silent=True, save_code=False),
            )
        self._run.define_metric(PREFIX + STEP, hidden=True)
        self._run.define_metric(PREFIX + "*", step_metric=PREFIX + STEP)

    def log(self, measurement: TrackedStep) -> None:
        """Log a step."""
        found: dict[str, object] = {
            PREFIX + name: value for name, value in measurement.scalars.items()
        }
        found[PREFIX + STEP] = measurement.step
        if measurement.worst_layer:
            found[PREFIX + "worst_layer"] = measurement.worst_layer
        for name, each in measurement.histograms.items():
            found[PREFIX + name] = self._histogram(np_histogram=(each.counts, each.edges))
        self._check()
        self._run.log(found, commit=self._is_ours)

    def alert(self, alert: Alert) -> None:
        """Send a finding as an alert."""
        title, level = f"{alert.code} {alert.name}", _LEVELS[alert.severity]
        self._check()
        self._run.alert(title=title, text=alert.text, level=level)

    def close(self) -> None:
        """Finish our own run; the script finishes its own."""
        if self._is_ours and self._run is not None:
            self._run.finish()

    def _check(self) -> None:
        """Raise where the script has finished its run."""
        if getattr(self._run, "_is_finished", False):
            raise TrackerEndedError
