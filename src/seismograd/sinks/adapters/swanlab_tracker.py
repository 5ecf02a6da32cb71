"""SwanLab: the script's own run."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from seismograd.sinks.tracker import PREFIX, STEP, Alert, RunStart, TrackedStep, TrackerEndedError


class SwanlabTracker:
    """Logs to the script's run, on an axis of our own. There is no run of ours: SwanLab has one in
    a process, whose `init` takes over the output, the handler of exceptions and that of Ctrl-C.
    """

    ends_at_exit = True  # SwanLab finishes its run at the exit

    def __init__(self, target: str) -> None:
        if target:
            raise ValueError("swanlab takes no target: it is the run of the script")
        self._swanlab = import_module("swanlab")
        self._event = import_module("swanlab.sdk.internal.bus.events").MetricLogEvent
        self._timestamp = import_module("google.protobuf.timestamp_pb2").Timestamp
        self._run: Any = None

    def begin(self, run: RunStart) -> None:  # noqa: ARG002  what it is given, not what it does with it
        """Find the script's run.

        Raises:
            RuntimeError: there is none.
        """
        if not self._swanlab.has_run():
            raise RuntimeError("the script has no SwanLab run before its first step")
        self._run = self._swanlab.get_run()
        # Its default axis counts what the script logs.
        self._run.define_metric(PREFIX + "*", x_axis=PREFIX + STEP)

    def log(self, measurement: TrackedStep) -> None:
        """Log a step."""
        found = {PREFIX + name: value for name, value in measurement.scalars.items()}
        found[PREFIX + STEP] = float(measurement.step)
        self._send(found, measurement.step)

    def alert(self, alert: Alert) -> None:
        """Log a finding as text."""
        text = self._swanlab.Text(f"{alert.severity} {alert.name}\n{alert.text}")
        self._send({PREFIX + alert.code: text}, alert.step)

    def close(self) -> None:
        """Leave the run to the script."""

    def _send(self, found: dict[str, Any], step: int) -> None:
        """Send as `Run.log` does, without its counter of steps: a step of ours would move the ones
        that the script's next calls get.
        """
        if not self._run.alive:
            raise TrackerEndedError
        now = self._timestamp()
        now.GetCurrentTime()
        event = self._event(data=found, step=max(0, step), timestamp=now)
        self._run._components.emitter.emit(event)
