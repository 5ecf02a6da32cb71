"""What a tracker is told of a run, and the interface that one is sent through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

PREFIX = "seismograd/"  # before the names of our scalars, where a tracker has those of others
STEP = "step"


@dataclass(frozen=True, slots=True)
class RunStart:
    """What is known of a run before its first step; `directory` returns where it is recorded."""

    script: str
    created_utc: str
    torch_version: str
    directory: Callable[[], Path]


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many scalars lie between each two `edges`, of which there is one more than `counts`."""

    edges: tuple[float, ...]
    counts: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TrackedStep:
    """The scalars of one step. NaN and infinities are what was measured; what was not measured is
    left out. `worst_layer` is the parameter whose gradient is the most unlike the others.
    `histograms` are there in sampled steps only, as raw buckets: of log2 |g|.
    """

    step: int
    time_s: float
    scalars: Mapping[str, float]
    worst_layer: str = ""
    histograms: Mapping[str, Histogram] = field(default_factory=dict[str, Histogram])


@dataclass(frozen=True, slots=True)
class Alert:
    """A finding, in words."""

    step: int
    code: str
    name: str
    severity: str
    text: str


class Tracker(Protocol):
    """Takes measurements and alerts, from one thread that is not the training's. Any method may
    block or raise: the training does not notice.

    Another package adds one by an entry point in the group `seismograd.sinks`: a callable that
    takes what follows the colon in `--to NAME:TARGET`, `""` without one, and returns a tracker.
    Where its library ends it at the exit of the process, before the last step is sent, it has an
    attribute `ends_at_exit = True`: failures after that are none.
    """

    def begin(self, run: RunStart) -> None:
        """Begin, right before the first step is sent."""
        ...

    def log(self, measurement: TrackedStep) -> None:
        """Take the numbers of a step."""
        ...

    def alert(self, alert: Alert) -> None:
        """Take a finding, once."""
        ...

    def close(self) -> None:
        """End; nothing comes after this."""
        ...


class TrackerEndedError(Exception):
    """The script has ended its own run of the tracker: what comes later has no place, and that is
    no failure.
    """
