"""seismograd: a seismograph for gradients.

Public names only, each loaded when it is first used: importing this package loads neither torch nor NumPy nor rich.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seismograd.control.accumulate import Accumulation as Accumulation
    from seismograd.control.accumulate import accumulate as accumulate
    from seismograd.control.adaptive import AutoClip as AutoClip
    from seismograd.control.adaptive import ZClip as ZClip
    from seismograd.control.clip import clip_grad_norm_ as clip_grad_norm_
    from seismograd.control.clip import clip_grad_value_ as clip_grad_value_
    from seismograd.control.compare import AccumulationComparison as AccumulationComparison
    from seismograd.control.compare import compare_accumulation as compare_accumulation
    from seismograd.control.losses import losses as losses
    from seismograd.control.micro_batch import MicroBatch as MicroBatch
    from seismograd.control.micro_batch import find_micro_batch as find_micro_batch
    from seismograd.control.nonfinite import NonFiniteGradientError as NonFiniteGradientError
    from seismograd.control.nonfinite import Skips as Skips
    from seismograd.control.units import clip_grad_unit_ as clip_grad_unit_
    from seismograd.errors import SeismogradError as SeismogradError
    from seismograd.errors import TrainingHalted as TrainingHalted
    from seismograd.record.reader import Run as Run
    from seismograd.record.reader import open_run as open_run
    from seismograd.wiring import watch as watch

__version__ = "0.1.0"

_HOMES = {
    "Accumulation": "seismograd.control.accumulate",
    "AccumulationComparison": "seismograd.control.compare",
    "AutoClip": "seismograd.control.adaptive",
    "MicroBatch": "seismograd.control.micro_batch",
    "NonFiniteGradientError": "seismograd.control.nonfinite",
    "Skips": "seismograd.control.nonfinite",
    "ZClip": "seismograd.control.adaptive",
    "accumulate": "seismograd.control.accumulate",
    "clip_grad_norm_": "seismograd.control.clip",
    "clip_grad_unit_": "seismograd.control.units",
    "clip_grad_value_": "seismograd.control.clip",
    "compare_accumulation": "seismograd.control.compare",
    "find_micro_batch": "seismograd.control.micro_batch",
    "losses": "seismograd.control.losses",
    "SeismogradError": "seismograd.errors",
    "TrainingHalted": "seismograd.errors",
    "Run": "seismograd.record.reader",
    "open_run": "seismograd.record.reader",
    "watch": "seismograd.wiring",
}

__all__ = [
    "Accumulation",
    "AccumulationComparison",
    "AutoClip",
    "MicroBatch",
    "NonFiniteGradientError",
    "Run",
    "SeismogradError",
    "Skips",
    "TrainingHalted",
    "__version__",
    "accumulate",
    "clip_grad_norm_",
    "clip_grad_unit_",
    "clip_grad_value_",
    "compare_accumulation",
    "find_micro_batch",
    "losses",
    "open_run",
    "watch",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'seismograd' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
