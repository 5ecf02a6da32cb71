"""Which backend measures: the fastest that this installation has."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import torch

from seismograd.i18n import Message, say
from seismograd.measure.backend import MeasuringBackend
from seismograd.measure.device_dispatch import DeviceDispatch
from seismograd.measure.native.library import load
from seismograd.measure.native.native_backend import NativeBackend
from seismograd.measure.native.slice_copies import SliceCopies
from seismograd.measure.reference import ReferenceBackend


def best_backend() -> MeasuringBackend:
    """The kernel where it was built, which leaves to the reference what it cannot read; else the
    reference.

    Beside it, where torch was built for CUDA, what measures there without waiting.
    """
    library = load()
    host = ReferenceBackend() if library is None else NativeBackend(library)
    # Whether there is a GPU is not asked: the question alone may make a later fork fail.
    return host if torch.version.cuda is None else DeviceDispatch(host, cuda_backend())


def cuda_backend() -> MeasuringBackend:
    """The kernel in Triton where that is installed, as with torch for Linux; else torch's
    operations, and a transfer that nobody awaits.
    """
    if importlib.util.find_spec("triton") is None:
        return ReferenceBackend(waiting=False)
    from seismograd.measure.cuda.cuda_backend import CudaBackend

    return CudaBackend(LazyKernel())


class LazyKernel:
    """The kernel, imported with Triton when it is first launched: a process without a GPU never
    needs it.
    """

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        """The launcher for a grid, as of the kernel itself."""
        kernel: Any = importlib.import_module("seismograd.measure.cuda.triton_kernel")
        return kernel.measure_pieces[grid]


def best_copies() -> SliceCopies | None:
    """What compares weights before and after a step where the kernel was built; else `updates`
    does.
    """
    library = load()
    return None if library is None else SliceCopies(library)


def why_slow() -> Message | None:
    """What to tell the user, once, when gradients on the CPU are measured slowly; `None` when
    they are not.
    """
    if load() is not None:
        return None
    return say(
        "measuring with torch operations, which is slower: the C++ kernel was not built (a "
        "compiler and a new install would mend it)"
    )
