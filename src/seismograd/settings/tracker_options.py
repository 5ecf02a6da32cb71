"""Where the numbers of a run go besides its record: the values of `--to`. Nothing of a tracker is
imported here, because `seismograd run` reads them before the script starts.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from seismograd.errors import SeismogradError
from seismograd.i18n import say

ENTRY_POINTS = "seismograd.sinks"
_MOST_PORTS = 65535


@dataclass(frozen=True, slots=True)
class TrackerOption:
    """A tracker by name, and what was written after the colon."""

    name: str
    target: str = ""


@dataclass(frozen=True, slots=True)
class KnownTracker:
    """A tracker that seismograd brings: `module` and `kind` are its class, `package` what has to be
    installed for it, `target` how what follows the colon is called in a message; it may have to be
    the number of a port.
    """

    module: str
    kind: str
    package: str = ""
    target: str = ""
    needs_target: bool = False
    is_port: bool = False


KNOWN_TRACKERS = {
    "jsonl": KnownTracker("jsonl_tracker", "JsonlTracker", "", "PATH"),
    "tensorboard": KnownTracker(
        "tensorboard_tracker", "TensorboardTracker", "tensorboard", "DIR", needs_target=True
    ),
    "wandb": KnownTracker("wandb_tracker", "WandbTracker", "wandb", "PROJECT"),
    "mlflow": KnownTracker("mlflow_tracker", "MlflowTracker", "mlflow", "EXPERIMENT"),
    "trackio": KnownTracker("trackio_tracker", "TrackioTracker", "trackio", "PROJECT"),
    "swanlab": KnownTracker("swanlab_tracker", "SwanlabTracker", "swanlab"),
    "prometheus": KnownTracker(
        "prometheus_tracker",
        "PrometheusTracker",
        "prometheus_client",
        "PORT",
        needs_target=True,
        is_port=True,
    ),
}


def parse_trackers(texts: Iterable[str]) -> tuple[TrackerOption, ...]:
    """Return the trackers that these values ask for: a name, or a name, a colon and its target.

    Raises:
        SeismogradError: one of them is unknown, not installed, or lacks its target.
    """
    return tuple(dict.fromkeys(_checked(text.strip()) for text in texts))


def added_tracker(name: str) -> EntryPoint | None:
    """Return the entry point by which another package adds this tracker; `None` without one."""
    return next(iter(entry_points(group=ENTRY_POINTS, name=name)), None)


def _checked(text: str) -> TrackerOption:
    name, _, target = text.partition(":")
    known = KNOWN_TRACKERS.get(name)
    if known is None:
        if not name or added_tracker(name) is None:
            raise SeismogradError(
                say("--to does not know {name}", name=repr(name)),
                say("available names: {names}", names=", ".join(KNOWN_TRACKERS)),
            )
        return TrackerOption(name, target)
    if known.package and importlib.util.find_spec(known.package) is None:
        raise SeismogradError(
            say("--to {name} needs {package}, which is not installed", name=name, package=name),
            say("pip install 'seismograd[{extra}]'", extra=name),
        )
    if known.needs_target and not target:
        raise SeismogradError(
            say("--to {name} does not say where", name=name),
            say("use {form}", form=f"{name}:{known.target}"),
        )
    if known.is_port and not (target.isdecimal() and 0 < int(target[:6]) <= _MOST_PORTS):
        raise SeismogradError(
            say("--to {name} needs the number of a port, not {text}", name=name, text=repr(target)),
            say("use {form}", form=f"{name}:9464"),
        )
    return TrackerOption(name, target)
