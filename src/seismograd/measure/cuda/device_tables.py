"""Measure the tensors of one device: launch for gradients and weights, and fill in what comes back.

Shapes: m gradients.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from seismograd.measure.backend import Measurement
from seismograd.measure.cuda.cuda_table import CudaTable
from seismograd.measure.cuda.device_queue import DeviceQueue
from seismograd.measure.cuda.device_result import DeviceResult, SentNumbers
from seismograd.schema import MEASURED_EVERY_TIME, STATISTICS, FloatArray

SAMPLED = tuple(each for each in STATISTICS if each.sampled)


class DeviceTables:
    """The tables of m gradients and of their weights, which lie on one device, and the result.

    `keys` are those of the gradients. `rows_known`: no other tables have remembered rows of theirs.
    """

    def __init__(
        self,
        gradients: Sequence[Tensor],
        keys: tuple[int, ...],
        queue: DeviceQueue,
        rows_known: bool,
    ) -> None:
        self._keys = frozenset(keys)
        self._queue = queue
        self._gradients = CudaTable(gradients, queue, with_rows=True)
        self._weights: CudaTable | None = None
        self._result = DeviceResult(len(gradients), queue, self._gradients.order)
        self._rows_known = rows_known

    def fits(self, gradients: Sequence[Tensor]) -> bool:
        """Return whether gradients lie as those of the table, and can be read."""
        return self._gradients.fits(gradients)

    def miss(self, keys: Iterable[int]) -> None:
        """Note that gradients with these keys are measured with other tables: where they are among
        its own, what it knows of rows is no longer all.
        """
        if self._rows_known and not self._keys.isdisjoint(keys):
            self._rows_known = False

    def measure(
        self,
        kernels: Any,
        gradients: Sequence[Tensor],
        weights: Sequence[Tensor],
        weight_positions: Sequence[int],
        scalars: Sequence[Tensor],
        sample: bool,
    ) -> Measurement:
        """Measure gradients that fit.

        Args:
            kernels: the module `triton_kernel`.
            gradients: m tensors.
            weights: those weights that the kernel can read, in a sample; else none.
            weight_positions: among the m, one for each of these.
            scalars: at most `device_result.MOST_SCALARS` tensors of one number.
            sample: measure the sampled statistics too.
        """
        result, table = self._result, self._gradients
        stream = table.order.stream()
        for position, scalar in enumerate(scalars):
            result.add_scalar(position, scalar)
        table.measure(kernels, gradients, result.numbers, result.sampled if sample else None)
        if weights:
            if self._weights is None or not self._weights.fits(weights):
                self._weights = CudaTable(weights, self._queue, with_rows=False)
            self._weights.measure(kernels, weights, result.weights)
        sent = result.send(stream, sample)
        # so also for the weights: they are measured on a stream that has waited for this
        table.order.used(sent.event)
        rows_known = self._rows_known
        self._rows_known = rows_known or sample
        return _arriving(sent, len(gradients), len(scalars), weight_positions, sample, rows_known)


def _arriving(
    sent: SentNumbers,
    num: int,
    num_scalars: int,
    weight_positions: Sequence[int],
    sample: bool,
    rows_known: bool,
) -> Measurement:
    values = {each.name: np.full(num, np.nan) for each in MEASURED_EVERY_TIME}
    samples: dict[str, FloatArray] = {}
    if sample:
        samples = {
            each.name: np.full(num if each.width == 1 else (num, each.width), np.nan)
            for each in SAMPLED
        }
    measured = Measurement(values, samples, np.full(num_scalars, np.nan))
    measured.pending = _Arriving(sent, measured, list(weight_positions), rows_known)
    return measured


class _Arriving:
    """Numbers in transfer, and the arrays that they belong in."""

    def __init__(
        self,
        sent: SentNumbers,
        measured: Measurement,
        weight_positions: list[int],
        rows_known: bool,
    ) -> None:
        self._sent: SentNumbers | None = sent
        self._values, self._samples = measured.values, measured.samples
        self._scalars = measured.scalars
        self._weight_positions, self._rows_known = weight_positions, rows_known

    def is_done(self) -> bool:
        return self._sent is None or self._sent.event.has_happened()

    def finish(self) -> None:
        sent, self._sent = self._sent, None
        if sent is None:
            return
        sent.wait()
        for name, numbers in sent.values().items():
            self._values[name][:] = numbers
        self._scalars[:] = sent.scalars()[: len(self._scalars)]
        if self._samples:
            self._samples["exponents"][:] = sent.exponents()
            self._samples["dead_rows"][:] = sent.dead_rows() if self._rows_known else np.nan
            positions = self._weight_positions
            self._samples["weight_norm"][positions] = sent.weight_norms(len(positions))
        sent.release()
