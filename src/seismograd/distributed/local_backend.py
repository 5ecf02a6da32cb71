"""Measure between the session and the backend: the local parts of DTensors, noting which part each
is.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from seismograd.distributed.marks import mark_of
from seismograd.distributed.weight_checksum import WeightChecksum
from seismograd.measure.backend import (
    MeasureAgain,
    MeasuredAgain,
    Measurement,
    MeasuringBackend,
    Prepare,
    SampleAgain,
    SampledAgain,
)
from seismograd.tensors.cuda_graph import is_capturing
from seismograd.tensors.dtensor import any_distributed, held_part
from seismograd.tensors.shards import ShardTable
from seismograd.tensors.tensor_part import TensorPart

PLAIN = {Tensor}


class LocalBackend:
    """A backend that passes on the local parts of DTensors, so that counts describe what this
    process holds.
    """

    def __init__(self, backend: MeasuringBackend, shards: ShardTable) -> None:
        self._backend, self._shards = backend, shards
        self._measure_again: MeasureAgain | None = getattr(backend, "measure_again", None)
        self._sample_again: SampleAgain | None = getattr(backend, "sample_again", None)
        self._prepare: Prepare | None = getattr(backend, "prepare", None)
        self.checksum: WeightChecksum | None = None  # of the weights, when requested
        # what the framework says about who holds the same, by column
        self.marks: dict[int, str] = {}

    @property
    def name(self) -> str:
        """Return the name of the backend that measures."""
        return self._backend.name

    @property
    def kernel(self) -> object | None:
        """Return the backend that measures with the kernel, `None` where there is none."""
        return getattr(self._backend, "kernel", None)

    def measure(
        self,
        gradients: Sequence[Tensor],
        weights: Sequence[Tensor],
        keys: Sequence[int],
        scalars: Sequence[Tensor],
        sample: bool,
    ) -> Measurement:
        """Measure; see `MeasuringBackend.measure`."""
        if self.checksum is not None and not is_capturing():
            self.checksum.add(keys, weights)
            self._mark(keys, weights)
        kinds = set(map(type, gradients))
        if not kinds <= PLAIN and (any_distributed() or TensorPart in kinds):
            for column, gradient in zip(keys, gradients, strict=True):
                self._shards.see(column, gradient)
            gradients, scalars = [held_part(g) for g in gradients], [held_part(s) for s in scalars]
            if sample:
                weights = [held_part(w) for w in weights]
        else:
            if scalars:
                scalars = [held_part(s) for s in scalars]
            if keys is not self._shards.plain_columns:
                self._shards.see_plain(keys)
        measured = self._backend.measure(gradients, weights, keys, scalars, sample)
        if self._shards.has_summands:
            if measured.pending is not None:
                measured.pending.finish()
            for column, gradient, norm in zip(
                keys, gradients, measured.values["grad_norm"], strict=True
            ):
                self._shards.store_summand(column, gradient, float(norm))
        return measured

    def prepare(self, parameters: list[Tensor], keys: tuple[int, ...], sample: bool) -> None:
        """Make ready for the gradients of these; see `Prepare`."""
        if self._prepare is not None:
            self._prepare(parameters, keys, sample)

    def measure_again(self, gradients: list[Tensor], keys: tuple[int, ...]) -> MeasuredAgain | None:
        """Return the values of plain gradients that lie as they did, or `None`; see
        `MeasureAgain`.
        """
        shards = self._shards
        if (
            self._measure_again is None
            or self.checksum is not None
            or keys is not shards.plain_columns
            or shards.has_summands
        ):
            return None
        return self._measure_again(gradients, keys)

    def sample_again(
        self, gradients: list[Tensor], weights: list[Tensor], keys: tuple[int, ...]
    ) -> SampledAgain | None:
        """Return those with samples, likewise; see `SampleAgain`."""
        shards = self._shards
        if (
            self._sample_again is None
            or self.checksum is not None
            or keys is not shards.plain_columns
            or shards.has_summands
        ):
            return None
        return self._sample_again(gradients, weights, keys)

    def _mark(self, keys: Sequence[int], parameters: Sequence[Tensor]) -> None:
        for key, parameter in zip(keys, parameters, strict=True):
            if key not in self.marks:
                self.marks[key] = mark_of(parameter)
