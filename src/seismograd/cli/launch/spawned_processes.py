"""Follow processes that a script starts to train in (`torch.multiprocessing.spawn`,
`multiprocessing.Process`): they are watched as well.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

from seismograd.exception_origin import left_out

Begin = Callable[[], Callable[[], None]]

# Their processes work for a training and do none: loaders of data, pools, managers, compilers.
LEFT_ALONE = ("torch.utils", "torch._inductor", "multiprocessing", "concurrent", "joblib")


class FollowedBootstrap:
    """Replaces a new process's `_bootstrap`, so that no frame of ours is in a traceback of what the
    process runs.

    It is pickled with the process where that is spawned, and inherited where it is forked. `begin`
    starts watching, in the new process, and returns a function that stops it.
    """

    def __init__(self, process: BaseProcess, begin: Begin) -> None:
        self._process, self._begin = process, begin

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the process."""
        vars(self._process).pop("_bootstrap", None)
        end: Callable[[], None] = lambda: None  # noqa: E731
        with left_out():  # it trains all the same
            end = self._begin()
        process: Any = self._process
        code = process._bootstrap(*args, **kwargs)
        with left_out():
            end()
        return code


def follow(begin: Begin) -> Callable[[], None]:
    """Also watch the processes started from here on, until the undo restores `BaseProcess.start`.

    Args:
        begin: called in each new process; it must be picklable.
    """
    original: Any = vars(BaseProcess)["start"]

    def start(self: BaseProcess) -> None:
        if not trains(self):
            return original(self)
        vars(self)["_bootstrap"] = FollowedBootstrap(self, begin)
        try:
            return original(self)
        finally:
            vars(self).pop("_bootstrap", None)

    start.__doc__, start.__name__, start.__qualname__ = (
        original.__doc__,
        original.__name__,
        original.__qualname__,
    )
    BaseProcess.start = start

    def undo() -> None:
        if vars(BaseProcess)["start"] is start:
            BaseProcess.start = original

    return undo


def trains(process: BaseProcess) -> bool:
    """Return whether a process about to start may be one that trains."""
    target: object = vars(process).get("_target")
    home = str(getattr(target if target is not None else type(process), "__module__", ""))
    if home == "torch.multiprocessing.spawn":
        return True
    return "torch" in sys.modules and not any(
        home == name or home.startswith(f"{name}.") for name in LEFT_ALONE
    )
