"""The backend that measures tensors on CUDA devices without waiting for them.

Shapes: n gradients, m of them read by the kernel, p pieces of these; W numbers per gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seismograd.measure.backend import Measurement
from seismograd.measure.cuda.cuda_table import CudaTable, takes
from seismograd.measure.merged_measurements import merge_measurements
from seismograd.measure.reference import ReferenceBackend
from seismograd.measure.transfer import Package
from seismograd.schema import HISTOGRAM_BINS, MEASURED_EVERY_TIME, STATISTICS, FloatArray
from seismograd.tensors.cuda_graph import is_capturing
from seismograd.tensors.isolation import in_own_context, without_user_modes

SUM, LARGE_SUM, SMALL, SQUARES, LARGE, LARGEST, ZEROS, NONFINITE, NANS = range(9)
NUMBERS = 9
SCALE = 2.0**600
MOST = np.finfo(np.float64).max
BLOCK = 1024
MOST_TABLES = 16


class CudaBackend:
    """Measures the tensors of a device with the kernel, and leaves those that it cannot read to
    torch's operations.

    Args:
        kernel: `kernel.measure_pieces`.
        device_type: `"cuda"`; `"cpu"` in Triton's interpreter.
    """

    name = "cuda"

    def __init__(self, kernel: Any, device_type: str = "cuda") -> None:
        self._kernel = kernel
        self._type = device_type
        self._others = ReferenceBackend(waiting=False)
        self._tables: dict[tuple[object, ...], CudaTable] = {}
        # by key: whether the rows have been remembered since the last sample
        self._whole_rows: dict[int, bool] = {}

    def measure(
        self,
        gradients: Sequence[Tensor],
        weights: Sequence[Tensor],
        keys: Sequence[int],
        scalars: Sequence[Tensor],
        sample: bool,
    ) -> Measurement:
        """Measure each gradient as it is now; see `backend.MeasuringBackend.measure`."""
        if is_capturing():
            return self._others.measure(gradients, weights, keys, scalars, sample)
        with without_user_modes():
            by_device: dict[torch.device, list[int]] = {}
            others: list[int] = []
            for position, gradient in enumerate(gradients):
                fits = gradient.device.type == self._type and takes(gradient, gradient.device)
                (by_device.setdefault(gradient.device, []) if fits else others).append(position)
            parts = [
                (
                    positions,
                    self._on_device(
                        device,
                        [gradients[p] for p in positions],
                        weights,
                        positions,
                        [keys[p] for p in positions],
                        sample,
                    ),
                )
                for device, positions in by_device.items()
            ]
        rest = (
            [gradients[p] for p in others],
            [weights[p] for p in others] if sample else [],
            [keys[p] for p in others],
        )
        measured = self._others.measure(*rest, scalars, sample)
        if not parts:
            return measured
        return merge_measurements(len(gradients), [*parts, (others, measured)], measured)

    def _on_device(
        self,
        device: torch.device,
        gradients: list[Tensor],
        weights: Sequence[Tensor],
        positions: list[int],
        keys: list[int],
        sample: bool,
    ) -> Measurement:
        table, words = self._table(
            ("gradients", len(keys), keys[0], keys[-1], device), gradients, device, keys
        )
        numbers, counts = self._launch(table, words, sample)
        packages = [Package(numbers)]
        if sample:
            packages += [
                Package(counts[:, :HISTOGRAM_BINS].contiguous()),
                Package(table.alive.clone()),
            ]
            table.alive.zero_()
            held = [weights[p].detach() for p in positions]
            theirs = [i for i, weight in enumerate(held) if takes(weight, device)]
            if theirs:
                name = ("weights", len(theirs), keys[0], keys[-1], device)
                of_weights, weight_words = self._table(
                    name, [held[i] for i in theirs], device, None
                )
                packages.append(Package(self._launch(of_weights, weight_words, False)[0]))
                return _arriving(table, packages, (of_weights, theirs), self._rows_known(keys))
        return _arriving(table, packages, None, self._rows_known(keys) if sample else True)

    def _rows_known(self, keys: list[int]) -> bool:
        known = all(self._whole_rows.get(key, True) for key in keys)
        self._whole_rows.update(dict.fromkeys(keys, True))
        return known

    def _table(
        self,
        name: tuple[object, ...],
        tensors: list[Tensor],
        device: torch.device,
        keys: list[int] | None,
    ) -> tuple[CudaTable, Tensor]:
        table = self._tables.get(name)
        words = (
            table.upload(tensors)
            if table is not None and table.num_tensors == len(tensors)
            else None
        )
        if table is None or words is None:
            if keys is not None:
                # The rows that an earlier table remembers are lost with it.
                self._whole_rows.update((key, key not in self._whole_rows) for key in keys)
            if len(self._tables) >= MOST_TABLES:
                self._tables.clear()
            table = self._tables[name] = CudaTable(tensors, device, with_rows=keys is not None)
            words = table.upload(tensors)
            assert words is not None
        return table, words

    def _launch(self, table: CudaTable, words: Tensor, counting: bool) -> tuple[Tensor, Tensor]:
        num_pieces = len(table.owner)
        numbers = torch.empty((num_pieces, NUMBERS), dtype=torch.float64, device=table.device)
        counts = torch.empty(
            (num_pieces if counting else 0, 128), dtype=torch.int32, device=table.device
        )
        if num_pieces:
            here: AbstractContextManager[object] = (
                torch.cuda.device(table.device) if table.device.type == "cuda" else nullcontext()
            )
            with here:
                # Fusing a product with its sum is right here; Triton 3.9 warns that it does so
                # unasked.
                self._kernel[(num_pieces,)](
                    words, numbers, counts, COUNTING=counting, BLOCK=BLOCK, enable_fp_fusion=True
                )
        return numbers, counts


class _PendingDevice:
    """The packages of one device, and the arrays that their numbers belong in."""

    def __init__(
        self,
        table: CudaTable,
        packages: list[Package],
        of_weights: tuple[CudaTable, list[int]] | None,
        rows_known: bool,
        measured: Measurement,
    ) -> None:
        self._table, self._packages, self._of_weights = table, packages, of_weights
        self._rows_known = rows_known
        self._measured = measured

    def is_done(self) -> bool:
        return all(package.is_done() for package in self._packages)

    def finish(self) -> None:
        packages, self._packages = self._packages, []
        if not packages:
            return
        values, samples = self._measured.values, self._measured.samples
        for name, numbers in _values(self._table, packages[0].numbers()).items():
            values[name][:] = numbers
        if len(packages) > 1:
            counts = np.zeros((self._table.num_tensors, HISTOGRAM_BINS))
            np.add.at(counts, self._table.owner, packages[1].numbers())
            samples["exponents"][:] = counts
            samples["dead_rows"][:] = (
                _dead_rows(self._table, packages[2].numbers()) if self._rows_known else np.nan
            )
        if self._of_weights is not None:
            table, theirs = self._of_weights
            samples["weight_norm"][theirs] = _values(table, packages[3].numbers())["grad_norm"]


def _arriving(
    table: CudaTable,
    packages: list[Package],
    of_weights: tuple[CudaTable, list[int]] | None,
    rows_known: bool,
) -> Measurement:
    num = table.num_tensors
    values = {each.name: np.full(num, np.nan) for each in MEASURED_EVERY_TIME}
    samples: dict[str, FloatArray] = {}
    if len(packages) > 1:
        samples = {
            each.name: np.full(num if each.width == 1 else (num, each.width), np.nan)
            for each in STATISTICS
            if each.sampled
        }
    measured = Measurement(values, samples, np.empty(0))
    return Measurement(
        values,
        samples,
        np.empty(0),
        _PendingDevice(table, packages, of_weights, rows_known, measured),
    )


@in_own_context
def _values(table: CudaTable, pieces: FloatArray) -> Mapping[str, FloatArray]:
    """Return the statistics of tensors from those of their pieces  # (p, NUMBERS) -> (m,) each."""
    whole = np.zeros((table.num_tensors, NUMBERS))
    with np.errstate(invalid="ignore", over="ignore"):
        np.add.at(whole, table.owner, pieces)
        largest = np.zeros(table.num_tensors)
        np.maximum.at(largest, table.owner, pieces[:, LARGEST])
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
    has_nan = whole[:, NANS] > 0
    return {
        "grad_norm": np.where(has_nan, np.nan, norm),
        "grad_max": np.where(has_nan, np.nan, largest),
        "grad_sum": whole[:, SUM] + large_sum,
        "zeros": whole[:, ZEROS],
        "nonfinite": whole[:, NONFINITE],
    }


def _dead_rows(table: CudaTable, alive: FloatArray) -> FloatArray:
    """Return how many rows were never alive  # (rows of all,) -> (m,)."""
    dead = np.concatenate([[0.0], np.cumsum(alive == 0)])
    return dead[table.row_starts + table.num_rows] - dead[table.row_starts]
