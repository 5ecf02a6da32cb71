"""The backend that measures tensors on CUDA devices without waiting for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from seismograd.exception_origin import raised_by_user
from seismograd.measure.backend import Measurement
from seismograd.measure.cuda.cuda_table import takes
from seismograd.measure.cuda.device_queue import CudaQueue, DeviceQueue
from seismograd.measure.cuda.device_result import MOST_SCALARS
from seismograd.measure.cuda.device_tables import DeviceTables
from seismograd.measure.merged_measurements import Part, merge_measurements
from seismograd.measure.reference import ReferenceBackend
from seismograd.tensors.cuda_graph import is_capturing
from seismograd.tensors.isolation import without_user_modes

MOST_TABLES = 16


class CudaBackend:
    """Measures the tensors of a device with the kernels, and leaves those that they cannot read to
    torch's operations. So it does with all of them where no kernel can be launched, as on a machine
    without a C compiler, which Triton needs.

    Args:
        load_kernels: returns the module `triton_kernel`, which imports Triton; called before the
            first launch.
        queue_of: returns what is asked of a device.
        device_type: `"cuda"`; `"cpu"` in Triton's interpreter.
    """

    def __init__(
        self,
        load_kernels: Callable[[], Any],
        queue_of: Callable[[torch.device], DeviceQueue] = CudaQueue,
        device_type: str = "cuda",
    ) -> None:
        self._load_kernels, self._queue_of = load_kernels, queue_of
        self._type = device_type
        self._others = ReferenceBackend(waiting=False)
        # by the keys of the gradients, and their device
        self._tables: dict[tuple[tuple[int, ...], torch.device], DeviceTables] = {}
        self._device: torch.device | None = None  # of all gradients of the last call
        self._seen: set[int] = set()  # keys
        self._has_launched = self._cannot_launch = False

    @property
    def name(self) -> str:
        """Return the name it is reported by."""
        return self._others.name if self._cannot_launch else "cuda"

    def measure(
        self,
        gradients: Sequence[Tensor],
        weights: Sequence[Tensor],
        keys: Sequence[int],
        scalars: Sequence[Tensor],
        sample: bool,
    ) -> Measurement:
        """Measure each gradient as it is now; see `backend.MeasuringBackend.measure`."""
        if not self._cannot_launch and not is_capturing():
            try:
                return self._measure(gradients, weights, tuple(keys), scalars, sample)
            except Exception as error:
                if self._has_launched or not _is_for_good(error):
                    raise
                self._cannot_launch = True
        return self._others.measure(gradients, weights, keys, scalars, sample)

    def _measure(
        self,
        gradients: Sequence[Tensor],
        weights: Sequence[Tensor],
        keys: tuple[int, ...],
        scalars: Sequence[Tensor],
        sample: bool,
    ) -> Measurement:
        with without_user_modes():
            by_device, others = self._by_device(gradients, keys)
            along = _along(scalars, next(iter(by_device), None))
            parts: list[Part] = []
            for device, positions in by_device.items():
                if len(positions) == len(gradients):
                    part = self._on_device(device, gradients, weights, keys, along, sample)
                else:
                    part = self._on_device(
                        device,
                        [gradients[p] for p in positions],
                        [weights[p] for p in positions] if sample else [],
                        tuple(keys[p] for p in positions),
                        () if parts else along,
                        sample,
                    )
                parts.append((positions, part))
                self._has_launched = True
        if parts and not others and len(along) == len(scalars):
            first = parts[0][1]
            return first if len(parts) == 1 else merge_measurements(len(gradients), parts, first)
        rest = self._others.measure(
            [gradients[p] for p in others],
            [weights[p] for p in others] if sample else [],
            [keys[p] for p in others],
            () if along else scalars,
            sample,
        )
        if not parts:
            return rest
        return merge_measurements(
            len(gradients), [*parts, (others, rest)], parts[0][1] if along else rest
        )

    def _by_device(
        self, gradients: Sequence[Tensor], keys: tuple[int, ...]
    ) -> tuple[dict[torch.device, Sequence[int]], list[int]]:
        """Return the positions of those that the kernels can read by their devices, and of the
        others.
        """
        if self._device is not None:
            tables = self._tables.get((keys, self._device))
            if tables is not None and tables.fits(gradients):  # as at most steps
                return {self._device: range(len(gradients))}, []
        by_device: dict[torch.device, list[int]] = {}
        others: list[int] = []
        for position, gradient in enumerate(gradients):
            fits = gradient.device.type == self._type and takes(gradient, gradient.device)
            (by_device.setdefault(gradient.device, []) if fits else others).append(position)
        self._device = next(iter(by_device)) if len(by_device) == 1 and not others else None
        return dict(by_device), others

    def _on_device(
        self,
        device: torch.device,
        gradients: Sequence[Tensor],
        weights: Sequence[Tensor],
        keys: tuple[int, ...],
        scalars: Sequence[Tensor],
        sample: bool,
    ) -> Measurement:
        try:
            tables = self._tables_of(device, gradients, keys)
            readable = (
                [p for p, weight in enumerate(weights) if takes(weight, device)] if sample else []
            )
            return tables.measure(
                self._load_kernels(),
                gradients,
                [weights[p] for p in readable],
                readable,
                scalars,
                sample,
            )
        except BaseException:
            # What was launched is not in order with what would be launched next.
            self._tables.clear()
            raise

    def _tables_of(
        self, device: torch.device, gradients: Sequence[Tensor], keys: tuple[int, ...]
    ) -> DeviceTables:
        name = keys, device
        tables = self._tables.get(name)
        if tables is None or not tables.fits(gradients):
            self._tables.pop(name, None)
            if len(self._tables) >= MOST_TABLES:
                del self._tables[next(iter(self._tables))]
            # The rows that earlier tables remember are lost with them.
            rows_known = self._seen.isdisjoint(keys)
            self._seen.update(keys)
            tables = self._tables[name] = DeviceTables(
                gradients, keys, self._queue_of(device), rows_known
            )
        if len(self._tables) > 1:
            for other in self._tables.values():
                if other is not tables:
                    other.miss(keys)
        return tables


def _is_for_good(error: Exception) -> bool:
    """Return whether the next launch would fail likewise."""
    return not isinstance(error, torch.OutOfMemoryError) and not raised_by_user(error)


def _along(scalars: Sequence[Tensor], device: torch.device | None) -> Sequence[Tensor]:
    """Return the scalars where all can come in the transfer from this device; else none."""
    fit = (
        device is not None
        and len(scalars) <= MOST_SCALARS
        and all(scalar.numel() == 1 and takes(scalar, device) for scalar in scalars)
    )
    return scalars if fit else ()
