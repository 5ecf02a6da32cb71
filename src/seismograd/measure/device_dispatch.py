"""Dispatch each tensor to the backend of its device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seismograd.measure.backend import (
    MeasureAgain,
    MeasuredAgain,
    Measurement,
    MeasuringBackend,
    Prepare,
    SampleAgain,
    SampledAgain,
)
from seismograd.measure.merged_measurements import merge_measurements


class DeviceDispatch:
    """Hands tensors on CUDA devices to `device`, all others to `host`. `name` is that of the
    host's.
    """

    def __init__(self, host: MeasuringBackend, device: MeasuringBackend) -> None:
        self._host, self._device = host, device
        self._measure_again: MeasureAgain | None = getattr(host, "measure_again", None)
        self._sample_again: SampleAgain | None = getattr(host, "sample_again", None)
        self._prepare: Prepare | None = getattr(host, "prepare", None)

    @property
    def kernel(self) -> object | None:
        """Return the backend that measures with the kernel, `None` where there is none."""
        return getattr(self._host, "kernel", None)

    @property
    def name(self) -> str:
        """Return the name of the host's backend, and of the device's once that is in use."""
        return (
            f"{self._host.name}+{self._device.name}"
            if torch.cuda.is_initialized()
            else self._host.name
        )

    def prepare(self, parameters: list[Tensor], keys: tuple[int, ...], sample: bool) -> None:
        """Make ready for the gradients of these; see `Prepare`."""
        if self._prepare is not None and not torch.cuda.is_initialized():
            self._prepare(parameters, keys, sample)

    def measure_again(self, gradients: list[Tensor], keys: tuple[int, ...]) -> MeasuredAgain | None:
        """Return the values of plain gradients that lie as they did, or `None`; see
        `MeasureAgain`.
        """
        if self._measure_again is None or torch.cuda.is_initialized():
            return None
        return self._measure_again(gradients, keys)

    def sample_again(
        self, gradients: list[Tensor], weights: list[Tensor], keys: tuple[int, ...]
    ) -> SampledAgain | None:
        """Return those with samples, likewise; see `SampleAgain`."""
        if self._sample_again is None or torch.cuda.is_initialized():
            return None
        return self._sample_again(gradients, weights, keys)

    def measure(
        self,
        gradients: Sequence[Tensor],
        weights: Sequence[Tensor],
        keys: Sequence[int],
        scalars: Sequence[Tensor],
        sample: bool,
    ) -> Measurement:
        """Measure each gradient as it is now; see `backend.MeasuringBackend.measure`."""
        if not torch.cuda.is_initialized():
            return self._host.measure(gradients, weights, keys, scalars, sample)
        on_device = [position for position, gradient in enumerate(gradients) if gradient.is_cuda]
        if len(on_device) == len(gradients):
            return self._device.measure(gradients, weights, keys, scalars, sample)
        if not on_device and not any(scalar.is_cuda for scalar in scalars):
            return self._host.measure(gradients, weights, keys, scalars, sample)
        on_host = [position for position, gradient in enumerate(gradients) if not gradient.is_cuda]

        def part(
            backend: MeasuringBackend, positions: list[int], brought: Sequence[Tensor]
        ) -> Measurement:
            return backend.measure(
                [gradients[p] for p in positions],
                [weights[p] for p in positions] if sample else [],
                [keys[p] for p in positions],
                brought,
                sample,
            )

        theirs, ours = part(self._device, on_device, scalars), part(self._host, on_host, ())
        return merge_measurements(len(gradients), [(on_device, theirs), (on_host, ours)], theirs)
