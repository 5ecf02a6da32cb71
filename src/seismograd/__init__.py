"""seismograd: a seismograph for gradients.

Public names only, each loaded when it is first used: importing this package loads neither torch nor NumPy nor rich.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seismograd.errors import SeismogradError as SeismogradError
    from seismograd.record.reader import Run as Run
    from seismograd.record.reader import open_run as open_run
    from seismograd.wiring import watch as watch

__version__ = "0.1.0"

_HOMES = {
    "SeismogradError": "seismograd.errors",
    "Run": "seismograd.record.reader",
    "open_run": "seismograd.record.reader",
    "watch": "seismograd.wiring",
}

__all__ = ["Run", "SeismogradError", "__version__", "open_run", "watch"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'seismograd' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
