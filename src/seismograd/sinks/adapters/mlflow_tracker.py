"""MLflow: the script's own run where there is one, otherwise a run of ours."""

from __future__ import annotations

import os
import random
import re
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from threading import get_ident
from typing import Any

from seismograd.sinks.tracker import PREFIX, Alert, RunStart, TrackedStep

_OTHER_CHARACTERS = re.compile(r"[^\w\-. :/]")  # than MLflow takes in a name
_MOST_TEXT = 4000


class MlflowTracker:
    """Logs through a client, with steps of our own, so that the script goes on as before;
    `target` is the experiment of a run of ours. MLflow takes NaN and infinities; a finding is a
    tag.
    """

    def __init__(self, target: str) -> None:
        self._experiment = target or "seismograd"
        with _without_telemetry():
            tracking = import_module("mlflow.tracking")
        self._metric = import_module("mlflow.entities").Metric
        self._active = import_module("mlflow.tracking.fluent")
        self._client: Any = tracking.MlflowClient()
        self._run_id = ""
        self._is_ours = False

    def begin(self, run: RunStart) -> None:
        """Find the script's run, of any thread, or begin one that is not active anywhere."""
        # `mlflow.active_run()` knows this thread's alone.
        active = self._active._get_latest_active_run()
        if active is not None:
            self._run_id = active.info.run_id
            return
        known = self._client.get_experiment_by_name(self._experiment)
        if known is None:
            with _without_numbers_of_the_script():
                number = self._client.create_experiment(self._experiment)
        else:
            number = known.experiment_id
        made = self._client.create_run(number, run_name=run.directory().name)
        self._run_id, self._is_ours = made.info.run_id, True
        self._client.set_tag(self._run_id, "script", run.script)
        self._client.set_tag(self._run_id, "torch", run.torch_version)

    def log(self, measurement: TrackedStep) -> None:
        """Log a step."""
        now_ms = int(time.time() * 1000)
        self._client.log_batch(
            self._run_id,
            [
                self._metric(_name(PREFIX + name), value, now_ms, measurement.step)
                for name, value in measurement.scalars.items()
            ],
        )

    def alert(self, alert: Alert) -> None:
        """Set a finding as a tag."""
        text = f"{alert.severity} {alert.name}, step {alert.step}\n{alert.text}"[:_MOST_TEXT]
        self._client.set_tag(self._run_id, f"seismograd.{alert.code}", text)

    def close(self) -> None:
        """End our own run; the script ends its own."""
        if self._is_ours:
            self._client.set_terminated(self._run_id)


@contextmanager
def _without_telemetry() -> Generator[None]:
    """Import MLflow without its report of use, unless the script has imported it: the thread of
    that report draws from the script's random numbers and asks the network.
    """
    name = "MLFLOW_DISABLE_TELEMETRY"
    if "mlflow" in sys.modules or name in os.environ:
        yield
        return
    os.environ[name] = "true"
    try:
        yield
    finally:
        os.environ.pop(name, None)


class _NumbersOfOneThread:
    """Stands for the module `random`; the thread that made it gets numbers of its own."""

    def __init__(self) -> None:
        self._thread, self._own = get_ident(), random.Random()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own if get_ident() == self._thread else random, name)


@contextmanager
def _without_numbers_of_the_script() -> Generator[None]:
    """Keep the number of an experiment from being drawn by the module `random`, as one of ten is,
    which the script draws from as well.
    """
    names = import_module("mlflow.utils.name_utils")
    if getattr(names, "random", None) is not random:
        yield
        return
    names.random = _NumbersOfOneThread()  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        names.random = random  # pyright: ignore[reportAttributeAccessIssue]


def _name(name: str) -> str:
    return _OTHER_CHARACTERS.sub("_", name)
