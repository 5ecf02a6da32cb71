"""The lines at which modules register new parameters, while somebody wants to know."""

from __future__ import annotations

import sys
import weakref
from contextlib import suppress
from types import FrameType
from typing import Any

import torch
from torch.nn.modules.module import register_module_parameter_registration_hook

from seismograd.capture.loop.call_sites import CallSites

MAX_BIRTHS = 4096  # between two looks
# Frames between the line that makes a module and the hook: what makes a layer within it, too.
MAKING = ("__init__", "__setattr__", "register_parameter", "<listcomp>", "<genexpr>")


class ParameterBirths:
    """Hears of parameters from torch's hook for them, from `listen` to `stop`.

    The hook belongs to all modules of the process, so it is there only while parameters are known
    to be made again and again, and goes with this object.
    """

    def __init__(self, call_sites: CallSites) -> None:
        self._call_sites = call_sites
        self._sites: dict[int, int] = {}
        self._stop: weakref.finalize[[], ParameterBirths] | None = None

    def listen(self) -> None:
        """Begin to hear of them."""
        if self._stop is None:
            alive = weakref.ref(self)

            def born(_: object, __: str, parameter: Any) -> None:
                births = alive()
                if births is not None and parameter is not None:
                    with suppress(Exception):  # the program is in the middle of its forward pass
                        births._add(parameter)

            handle = register_module_parameter_registration_hook(born)
            self._stop = weakref.finalize(self, handle.remove)

    def stop(self) -> None:
        """Take the hook away, and forget."""
        self._sites.clear()
        if self._stop is not None:
            self._stop()
            self._stop = None

    def take(self, parameter: torch.Tensor) -> str:
        """Return the line that made a parameter, "" if it is not known; forget all others."""
        index = self._sites.get(id(parameter), -1)
        self._sites.clear()
        return str(self._call_sites.sites[index]) if index >= 0 else ""

    def _add(self, parameter: torch.Tensor) -> None:
        if len(self._sites) >= MAX_BIRTHS:
            return
        depth = 1
        frame: FrameType | None = sys._getframe(depth)  # pyright: ignore[reportPrivateUsage]
        while frame is not None and frame.f_code.co_name in ("born", "_add", *MAKING):
            depth, frame = depth + 1, frame.f_back
        self._sites[id(parameter)] = self._call_sites.here(depth)
