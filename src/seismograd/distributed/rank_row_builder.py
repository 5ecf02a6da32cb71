"""Put together what one process tells of each of its iterations."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from seismograd.distributed.iteration_numbers import IterationNumbers
from seismograd.distributed.local_backend import LocalBackend
from seismograd.distributed.local_gradients import LocalGradients
from seismograd.distributed.rank_report import DigestArray, RankColumns
from seismograd.distributed.rank_row import RankRow, uniform_factor
from seismograd.schema import RANK_DTYPE, AnyArray, Parameter, RankFlag, RowBatch
from seismograd.tensors.shards import ShardTable


class RankRowBuilder:
    """Adds to a row which part of each parameter the process holds, its checksums and its clip.

    Args:
        backend: has the checksums of the weights, and the marks of parameters.
        shards: the part of each parameter that this process holds, as the backend has seen it.
    """

    def __init__(self, backend: LocalBackend, shards: ShardTable) -> None:
        self._backend, self._shards = backend, shards
        self._numbers = IterationNumbers()
        self._columns: RankColumns | None = None
        self._described: tuple[tuple[Parameter, ...], int] = ((), -1)

    @property
    def num_begun(self) -> int:
        """Return how many iterations have begun since `begin`."""
        return self._numbers.num_begun

    def begin(self) -> None:
        """Count iterations from 0: the process has joined others."""
        self._numbers = IterationNumbers()

    def build(self, row: RowBatch, rank: int, local: LocalGradients | None) -> RankRow:
        """Return an iteration of this process; `local`: its gradients before the reduction."""
        order = (
            self._shards.take_clip_order()
            if not math.isnan(float(row.steps["clip_norm"][0]))
            else math.nan
        )
        columns, summands = self._described_columns(row.parameters), self._shards.take_summands()
        digests = self._digests(len(row.parameters))
        entry = self._entry(row, rank, math.isnan(order), local)
        index = self._numbers.take(row)
        return RankRow(index, row, columns, entry, order, time.monotonic(), summands, digests)

    def _digests(self, num_columns: int) -> tuple[DigestArray, ...]:
        """Return the checksums of each column, where they were computed; of the first iteration
        also those of the weights as they are now, after the step: whether replicas stay alike shows
        at once.
        """
        checksum = self._backend.checksum
        if checksum is None:
            return ()
        checksums = (checksum,) if self._numbers.num_begun else (checksum, checksum.again())
        digests = np.zeros((len(checksums), num_columns), np.uint64)
        for row, each in zip(digests, checksums, strict=True):
            for column, part in each.of_each().items():
                row[column] = part
        return tuple(digests)

    def _described_columns(self, parameters: tuple[Parameter, ...]) -> RankColumns:
        described, version = self._described
        if self._columns is None or described is not parameters or version != self._shards.version:
            number = 0 if self._columns is None else self._columns.version + 1
            marks = self._backend.marks
            self._columns = RankColumns(
                number,
                parameters,
                self._shards.of(len(parameters)),
                tuple(marks.get(column, "") for column in range(len(parameters))),
            )
            self._described = (parameters, self._shards.version)
        return self._columns

    def _entry(
        self, row: RowBatch, rank: int, is_whole: bool, local: LocalGradients | None
    ) -> AnyArray:
        """Return what is known of this process. `is_whole`: its clip, if any, used a whole norm."""
        step = row.steps[0]
        entry: Any = np.zeros((), RANK_DTYPE)
        entry["rank"], entry["replica_of"] = rank, -1
        entry["iteration"], entry["loss"], entry["grad_norm"] = (
            step["iteration"],
            step["loss"],
            step["grad_norm"],
        )
        entry["local_norm"] = entry["clip_norm"] = math.nan
        entry["clip_coefficient"] = uniform_factor(row)
        if is_whole and not math.isnan(float(step["clip_coefficient"])):
            entry["clip_norm"] = step["clip_norm"]
            entry["clip_coefficient"] = step["clip_coefficient"]
        flags = RankFlag.NONE
        if local is not None:
            flags |= RankFlag.LOCAL | (RankFlag.LOCAL_ALL if local.all else RankFlag.NONE)
            entry["local_norm"] = local.norm if math.isfinite(local.norm) else math.nan
            entry["local_nonfinite"] = local.nonfinite
        if self._backend.checksum is not None:
            flags |= RankFlag.CHECKSUM
            entry["weight_checksum"] = np.uint64(self._backend.checksum.value())
        entry["flags"] = int(flags)
        return entry
