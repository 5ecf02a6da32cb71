"""Each tensor to the backend of the device that it is on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seismograd.measure.backend import Backend, Measured
from seismograd.measure.joined import joined


class Devices:
    """Hands tensors on CUDA devices to `device`, all others to `host`. `name` is that of the host's."""

    def __init__(self, host: Backend, device: Backend) -> None:
        self._host, self._device = host, device

    @property
    def name(self) -> str:
        """The name of the host's backend, and of the device's once that is in use."""
        return f"{self._host.name}+{self._device.name}" if torch.cuda.is_initialized() else self._host.name

    def measure(
        self, gradients: Sequence[Tensor], weights: Sequence[Tensor], keys: Sequence[int], scalars: Sequence[Tensor], sample: bool
    ) -> Measured:
        """Measure each gradient as it is now; see `backend.Backend.measure`."""
        if not torch.cuda.is_initialized():
            return self._host.measure(gradients, weights, keys, scalars, sample)
        on_device = [place for place, gradient in enumerate(gradients) if gradient.is_cuda]
        if len(on_device) == len(gradients):
            return self._device.measure(gradients, weights, keys, scalars, sample)
        if not on_device and not any(scalar.is_cuda for scalar in scalars):
            return self._host.measure(gradients, weights, keys, scalars, sample)
        on_host = [place for place, gradient in enumerate(gradients) if not gradient.is_cuda]

        def part(backend: Backend, places: list[int], brought: Sequence[Tensor]) -> Measured:
            return backend.measure(
                [gradients[p] for p in places], [weights[p] for p in places] if sample else [], [keys[p] for p in places], brought, sample
            )

        theirs, ours = part(self._device, on_device, scalars), part(self._host, on_host, ())
        return joined(len(gradients), [(on_device, theirs), (on_host, ours)], theirs)
