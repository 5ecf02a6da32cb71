"""seismograd: a seismograph for gradients.

Public names only, each loaded when it is first used: importing this package loads neither torch nor
NumPy nor rich.

PYTEST_DONT_REWRITE: our plug-in makes pytest rewrite this package, of which it would warn where
`seismograd run -m pytest` has imported it before.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from seismograd.package_info import VERSION

if TYPE_CHECKING:
    from seismograd.api import watch as watch
    from seismograd.control.accumulate.accumulation import Accumulation as Accumulation
    from seismograd.control.accumulate.accumulation import accumulate as accumulate
    from seismograd.control.accumulate.accumulation_check import (
        AccumulationComparison as AccumulationComparison,
    )
    from seismograd.control.accumulate.accumulation_check import (
        compare_accumulation as compare_accumulation,
    )
    from seismograd.control.accumulate.micro_batch import MicroBatch as MicroBatch
    from seismograd.control.accumulate.micro_batch import find_micro_batch as find_micro_batch
    from seismograd.control.clip.adaptive_clipping import AutoClip as AutoClip
    from seismograd.control.clip.adaptive_clipping import ZClip as ZClip
    from seismograd.control.clip.nonfinite_policy import (
        NonFiniteGradientError as NonFiniteGradientError,
    )
    from seismograd.control.clip.nonfinite_policy import Skips as Skips
    from seismograd.control.clip.norm_clipping import clip_grad_norm_ as clip_grad_norm_
    from seismograd.control.clip.norm_clipping import clip_grad_value_ as clip_grad_value_
    from seismograd.control.clip.unit_clipping import clip_grad_unit_ as clip_grad_unit_
    from seismograd.control.losses.task_losses import losses as losses
    from seismograd.errors import SeismogradError as SeismogradError
    from seismograd.errors import TrainingHalted as TrainingHalted
    from seismograd.record.reader import Run as Run
    from seismograd.record.reader import open_run as open_run

__version__ = VERSION

_HOMES = {
    "Accumulation": "seismograd.control.accumulate.accumulation",
    "AccumulationComparison": "seismograd.control.accumulate.accumulation_check",
    "AutoClip": "seismograd.control.clip.adaptive_clipping",
    "MicroBatch": "seismograd.control.accumulate.micro_batch",
    "NonFiniteGradientError": "seismograd.control.clip.nonfinite_policy",
    "Skips": "seismograd.control.clip.nonfinite_policy",
    "ZClip": "seismograd.control.clip.adaptive_clipping",
    "accumulate": "seismograd.control.accumulate.accumulation",
    "clip_grad_norm_": "seismograd.control.clip.norm_clipping",
    "clip_grad_unit_": "seismograd.control.clip.unit_clipping",
    "clip_grad_value_": "seismograd.control.clip.norm_clipping",
    "compare_accumulation": "seismograd.control.accumulate.accumulation_check",
    "find_micro_batch": "seismograd.control.accumulate.micro_batch",
    "losses": "seismograd.control.losses.task_losses",
    "SeismogradError": "seismograd.errors",
    "TrainingHalted": "seismograd.errors",
    "Run": "seismograd.record.reader",
    "open_run": "seismograd.record.reader",
    "watch": "seismograd.api",
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
