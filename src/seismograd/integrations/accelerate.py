"""accelerate: watch what `prepare` returned, and send the numbers where its trackers send."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from seismograd import api
from seismograd.i18n import say

if TYPE_CHECKING:
    from seismograd.recording import Recording

SAME_NAME = ("wandb", "mlflow", "swanlab")  # trackers whose run of the script is found by itself


def watch(
    accelerator: Any, *watched: Any, to: str | Sequence[str] = (), **options: Any
) -> Recording:
    """Record what `accelerator.prepare` returned, with the options of `seismograd.watch`:

        model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
        recording = watch(accelerator, model, optimizer, out="runs/first")

    Call it in every process, after `accelerator.init_trackers`: the trackers that it has begun get
    the numbers of each step and the findings, too.

    Raises:
        SeismogradError: an option is not well formed, or `out` cannot be written.
        TypeError: something watched is neither a module nor an optimizer.
    """
    asked = [to] if isinstance(to, str) else list(to)
    known = {each.partition(":")[0] for each in asked}
    found = [each for each in trackers_of(accelerator) if each.partition(":")[0] not in known]
    return api.watch(*watched, to=[*asked, *found], **options)


def trackers_of(accelerator: Any) -> list[str]:
    """Return what `to` says of the trackers that an accelerator has begun; a line on stderr names
    those that seismograd does not know.
    """
    found: list[str] = []
    for tracker in getattr(accelerator, "trackers", ()):
        name = str(getattr(tracker, "name", ""))
        if name in SAME_NAME:
            found.append(name)
        elif name == "tensorboard":
            found.append(f"tensorboard:{tracker.writer.log_dir}")
        elif name == "trackio":
            found.append(f"trackio:{tracker.run.project}")
        else:
            line = say("nothing is sent to accelerate's tracker {name}", name=repr(name[:100]))
            print(f"seismograd: {line.render()}", file=sys.stderr)
    return found
