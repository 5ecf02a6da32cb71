"""Ray Train: record what its workers train, in the processes that Ray starts for them.

Ray imports this in each of its processes, most of which train nothing: it needs the standard
library only, and looks at torch when somebody else imports that.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seismograd.recording import Recording

OUT, SCRIPT = "SEISMOGRAD_OUT", "SEISMOGRAD_SCRIPT"  # in the environment of the workers
_NAME = "seismograd.integrations.ray.watch_worker"
_FIELD = "worker_process_setup_hook"
_LOOK_S = 0.05


@dataclass(frozen=True)
class WorkerHook:
    """What Ray calls in each new worker, with options of `seismograd.watch`:

        ray.init(runtime_env={"worker_process_setup_hook": WorkerHook("/shared/runs/first")})

    Args:
        out: the directory of the record, which the worker of rank 0 must reach; relative to the
            worker's. Default: `SEISMOGRAD_OUT` of its environment, else `runs/<UTC time>-ray`.
        options: such as `{"level": "light"}`.

    Raises:
        SeismogradError: an option is not well formed.
        TypeError: there is no such option.
    """

    out: str | os.PathLike[str] | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    __name__ = "seismograd"  # what Ray shows of it

    def __post_init__(self) -> None:
        from seismograd.settings.option_parsing import parse_options

        parse_options(**self.options)

    def __call__(self) -> None:
        """Watch this process as soon as torch is imported in it. A failure is a line on stderr:
        Ray would start no worker otherwise.
        """
        from seismograd.import_hook import when_imported

        try:
            when_imported("torch", self._begin)
        except Exception as error:
            _say_why(error)

    def _begin(self) -> None:
        from seismograd.random_states import same_random_numbers

        try:
            with same_random_numbers():
                recording = self._record()
        except Exception as error:
            _say_why(error)
            return
        threading.Thread(
            target=_close_behind, args=(recording,), name="seismograd-ray", daemon=True
        ).start()

    def _record(self) -> Recording:
        from seismograd.recording import Recording
        from seismograd.settings.option_parsing import parse_options

        script = os.environ.get(SCRIPT, "ray")
        out = self.out or os.environ.get(OUT) or _new_path(script)
        # The first that trains takes the directory; the others of its group report to it.
        return Recording(
            Path.cwd() / out, script, options=parse_options(**self.options), child=True
        )


def watch_worker() -> None:
    """Watch a worker: `runtime_env={"worker_process_setup_hook":
    "seismograd.integrations.ray.watch_worker"}`.
    """
    WorkerHook()()


def add_hook(runtime_env: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a runtime environment whose workers are recorded: a script need not be edited where
    Ray is told to call this, by `RAY_RUNTIME_ENV_HOOK=seismograd.integrations.ray.add_hook`.

    The directory is `SEISMOGRAD_OUT` or `runs/<UTC time>-<script>`, from here. A hook that the
    script has itself stays, and a line says so.
    """
    changed = dict(runtime_env or {})
    if changed.setdefault(_FIELD, _NAME) != _NAME:
        from seismograd.i18n import say

        line = say("Ray's workers have a setup hook already, so nothing is recorded").render()
        print(f"seismograd: {line}", file=sys.stderr)
        return changed
    script = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "ray"
    out = Path.cwd() / (os.environ.get(OUT) or _new_path(script))
    changed["env_vars"] = {SCRIPT: script, OUT: str(out), **(changed.get("env_vars") or {})}
    return changed


def _new_path(script: str) -> Path:
    return Path("runs") / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{Path(script).stem}"


def _close_behind(recording: Recording) -> None:
    """Close the record when the threads that trained have ended: Ray trains on a thread of its own,
    and kills the process a moment later, without a word to it.
    """
    while not recording.num_iterations:
        time.sleep(_LOOK_S)
    trained = set(recording.training_threads) - {threading.main_thread().ident}
    if not trained:
        return  # the process trains in its main thread: the record closes at its exit
    for each in threading.enumerate():
        if each.ident in trained:
            each.join()
    recording.close()


def _say_why(error: Exception) -> None:
    from seismograd.i18n import say

    reason = f"{type(error).__name__}: {error}"
    line = say("the training is not recorded: {reason}", reason=reason).render()
    print(f"seismograd: {line}", file=sys.stderr)
