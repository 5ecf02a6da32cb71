"""The numbers of the tensors of one device: merged there, and brought to the host in one copy.

Shapes: m tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seismograd.measure.cuda.cuda_table import NUMBERS
from seismograd.measure.cuda.device_queue import DeviceQueue
from seismograd.measure.cuda.ring import Ring, Slot
from seismograd.measure.cuda.stream_order import StreamOrder
from seismograd.schema import HISTOGRAM_BINS, FloatArray
from seismograd.tensors.isolation import in_own_context

SUM, LARGE_SUM, SMALL, SQUARES, LARGE, LARGEST, ZEROS, NONFINITE, NANS = range(NUMBERS)
SCALE = 2.0**600
MOST = np.finfo(np.float64).max
MOST_SCALARS = 8


@dataclass(frozen=True, slots=True)
class ResultLayout:
    """The parts of the float64 numbers of m tensors: what comes every time, then what is sampled.
    Each begins at a multiple of 16 bytes: Triton compiles a kernel once more for any other address.
    """

    scalars: slice  # (MOST_SCALARS,)
    numbers: slice  # (m · NUMBERS,)
    weights: slice  # (m · NUMBERS,)
    dead_rows: slice  # (m,)
    exponents: slice  # (m · HISTOGRAM_BINS,)


def result_layout(num_tensors: int) -> ResultLayout:
    """Return the layout for m tensors."""
    parts: list[slice] = []
    start = 0
    for num in (
        MOST_SCALARS,
        *(num_tensors * each for each in (NUMBERS, NUMBERS, 1, HISTOGRAM_BINS)),
    ):
        parts.append(slice(start, start + num))
        start += num + num % 2
    return ResultLayout(*parts)


class DeviceResult:
    """Where the numbers of m tensors are put together on their device, and the rings of host memory
    that they are copied to.

    On the device there is one place only: the next measurement is ordered behind the copy of the
    last one.
    """

    def __init__(self, num_tensors: int, queue: DeviceQueue, order: StreamOrder) -> None:
        self.layout = layout = result_layout(num_tensors)
        self._queue = queue
        whole = order.memory(layout.exponents.stop, torch.float64)
        self.scalars, self.numbers, self.weights = (
            whole[part] for part in (layout.scalars, layout.numbers, layout.weights)
        )
        self.sampled = whole[layout.dead_rows], whole[layout.exponents]
        self._sent = {False: whole[: layout.numbers.stop], True: whole}
        self._rings = {
            sample: Ring(queue, len(sent), torch.float64) for sample, sent in self._sent.items()
        }

    def add_scalar(self, position: int, scalar: Tensor) -> None:
        """Let a tensor of one number come along."""
        self._queue.copy(self.scalars[position : position + 1], scalar.reshape(1))

    def send(self, stream: Any, sample: bool) -> SentNumbers:
        """Send the numbers to the host, without blocking."""
        ring = self._rings[sample]
        slot = ring.take()
        self._queue.copy(slot.tensor, self._sent[sample])
        slot.event.record(stream)
        return SentNumbers(ring, slot, self.layout)


class SentNumbers:
    """The numbers of m tensors on their way to the host."""

    def __init__(self, ring: Ring, slot: Slot, layout: ResultLayout) -> None:
        self.event = slot.event
        self._ring, self._slot, self._layout = ring, slot, layout

    def wait(self) -> None:
        """Wait for them if necessary."""
        if not self.event.has_happened():
            self.event.synchronize()

    def scalars(self) -> FloatArray:
        """Return the scalars  # (MOST_SCALARS,). Like all here, once they have come."""
        return self._slot.numbers[self._layout.scalars]

    def values(self) -> Mapping[str, FloatArray]:
        """Return the statistics of the gradients by name  # (m,) each."""
        return statistics_of(self._slot.numbers[self._layout.numbers].reshape(-1, NUMBERS))

    def weight_norms(self, num: int) -> FloatArray:
        """Return the norms of so many weights  # (num,)."""
        numbers = self._slot.numbers[self._layout.weights].reshape(-1, NUMBERS)
        return statistics_of(numbers[:num])["grad_norm"]

    def dead_rows(self) -> FloatArray:
        """Return how many rows of each were never alive  # (m,)."""
        return self._slot.numbers[self._layout.dead_rows]

    def exponents(self) -> FloatArray:
        """Return the counts of the exponents  # (m, HISTOGRAM_BINS)."""
        return self._slot.numbers[self._layout.exponents].reshape(-1, HISTOGRAM_BINS)

    def release(self) -> None:
        """Give the memory back: nobody reads the numbers there any more."""
        self._ring.put(self._slot)


@in_own_context
def statistics_of(whole: FloatArray) -> Mapping[str, FloatArray]:
    """Return the statistics that the numbers of the kernel give  # (m, NUMBERS) -> (m,) each."""
    with np.errstate(invalid="ignore", over="ignore"):
        # A sum of finite numbers stays finite; see `statistics.sum`.
        large_sum = np.where(
            np.isfinite(whole[:, LARGE_SUM]),
            np.clip(whole[:, LARGE_SUM] * SCALE, -MOST, MOST),
            whole[:, LARGE_SUM],
        )
        small, squares, large = whole[:, SMALL], whole[:, SQUARES], whole[:, LARGE]
        norm = np.where(
            large != 0,
            np.sqrt(large + squares / SCALE / SCALE) * SCALE,
            np.where(
                squares != 0, np.sqrt(squares + small / SCALE / SCALE), np.sqrt(small) / SCALE
            ),
        )
        total = whole[:, SUM] + large_sum
    has_nan = whole[:, NANS] > 0
    return {
        "grad_norm": np.where(has_nan, np.nan, norm),
        "grad_max": np.where(has_nan, np.nan, whole[:, LARGEST]),
        "grad_sum": total,
        "zeros": whole[:, ZEROS],
        "nonfinite": whole[:, NONFINITE],
    }
