"""Measure the peak memory of a piece of work: of the process on the CPU, of the allocator on
CUDA.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch

from seismograd.errors import SeismogradError
from seismograd.i18n import say

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # see proc_pid_clear_refs(5)


class PeakMeter(Protocol):
    """Measures memory peaks."""

    def peak_of(self, work: Callable[[], None]) -> int | None:
        """Run the work; return the most bytes in use at once meanwhile, `None` when memory did not
        suffice.
        """
        ...


class ProcessPeakMeter:
    """The peak resident memory of this process, which Linux keeps and lets be reset.

    Raises:
        SeismogradError: this system does not.
    """

    def __init__(self) -> None:
        try:
            RESET.write_text(RESET_PEAK)
            _peak_resident()
        except (OSError, TypeError) as error:
            raise SeismogradError(
                say("this system does not report the peak memory of a process"),
                say("run find_micro_batch on Linux or on a GPU"),
            ) from error

    def peak_of(self, work: Callable[[], None]) -> int | None:
        """Run the work; return the peak of the resident memory in bytes."""
        _trim_memory()
        RESET.write_text(RESET_PEAK)
        try:
            work()
        except RuntimeError as error:
            if "can't allocate memory" not in str(error):
                raise
            return None
        return _peak_resident()


class DevicePeakMeter:
    """The most that torch's allocator has handed out on a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def peak_of(self, work: Callable[[], None]) -> int | None:
        """Run the work; return the most bytes that tensors took on the device."""
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)
        try:
            work()
        except torch.cuda.OutOfMemoryError:
            return None
        torch.cuda.synchronize(self._device)
        return int(torch.cuda.max_memory_allocated(self._device))


def meter_for(device: torch.device) -> PeakMeter:
    """Return the meter for a device.

    Raises:
        SeismogradError: there is none for it.
    """
    if device.type == "cpu":
        return ProcessPeakMeter()
    if device.type == "cuda":
        return DevicePeakMeter(device)
    raise SeismogradError(
        say("memory cannot be measured on {device}", device=device.type),
        say("run find_micro_batch on the CPU or on CUDA"),
    )


def _peak_resident() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
    if found is None:
        raise OSError("no VmHWM")
    return int(found[1]) * 1024


def _trim_memory() -> None:
    """Have the C library return its free memory, which would count as resident."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
