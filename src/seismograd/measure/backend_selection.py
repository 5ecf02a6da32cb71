"""Select the measuring backend: the fastest that this installation has."""

from __future__ import annotations

import importlib
import importlib.util
import threading

import torch

from seismograd.i18n import Message, say
from seismograd.measure.backend import MeasuringBackend
from seismograd.measure.device_dispatch import DeviceDispatch
from seismograd.measure.native.library import load
from seismograd.measure.native.native_backend import NativeBackend
from seismograd.measure.native.slice_copies import SliceCopies
from seismograd.measure.reference import ReferenceBackend


def has_kernel() -> bool:
    """Return whether gradients on the CPU are measured with the kernel, whatever torch was built
    for.
    """
    return load() is not None


class _HostBackends(threading.local):
    """The backend of `host_backend` in each thread: the kernel reads a table without the GIL, so
    two threads must not fill one at once.
    """

    native: NativeBackend | None = None


_HOST_BACKENDS = _HostBackends()


def host_backend() -> MeasuringBackend:
    """Return the backend for occasional measurements of tensors on the CPU, such as the norms of a
    clip. It is made once per thread, so a loop that clips builds its tables once.

    It remembers nothing of a parameter, so every caller may number its tensors from 0.
    """
    library = load()
    if library is None:
        return ReferenceBackend()
    if _HOST_BACKENDS.native is None:
        _HOST_BACKENDS.native = NativeBackend(library, remembers_rows=False)
    return _HOST_BACKENDS.native


def make_backend() -> MeasuringBackend:
    """Make the backend of a session, which remembers the rows of its parameters: the kernel where
    it was built, which leaves what it cannot read to the reference; else the reference.

    Where torch was built for CUDA, add the backend that measures there without waiting.
    """
    library = load()
    host = ReferenceBackend() if library is None else NativeBackend(library)
    # Never ask whether there is a GPU: the question alone may make a later fork fail.
    return host if torch.version.cuda is None else DeviceDispatch(host, cuda_backend())


def cuda_backend() -> MeasuringBackend:
    """Return the Triton kernel where Triton is installed, as with torch for Linux; else torch's
    operations, with a non-blocking transfer.
    """
    if importlib.util.find_spec("triton") is None:
        return ReferenceBackend(waiting=False)
    from seismograd.measure.cuda.cuda_backend import CudaBackend

    # Triton is imported on the first launch: a process without a GPU never needs it.
    return CudaBackend(lambda: importlib.import_module("seismograd.measure.cuda.triton_kernel"))


def best_copies() -> SliceCopies | None:
    """Return the kernel's comparison of weights before and after a step where the kernel was built;
    else `updates` does it.
    """
    library = load()
    return None if library is None else SliceCopies(library)


def why_slow() -> Message | None:
    """Return the message, for one report, that gradients on the CPU are measured slowly; `None`
    when they are not.
    """
    if load() is not None:
        return None
    return say(
        "gradients are measured with torch operations, which is slower, because the C++ kernel was "
        "not built (install a compiler and reinstall seismograd to fix this)"
    )
