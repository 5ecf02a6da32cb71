"""The loss scale: that of a `GradScaler`, and the total weight by which `seismograd.control` divides."""

from __future__ import annotations

from typing import Any

from seismograd.listen.lanes import Lane
from seismograd.listen.log import Log
from seismograd.listen.reader import Reader
from seismograd.listen.registry import Registry
from seismograd.listen.scalars import Scalar
from seismograd.schema import EventKind


class Scales:
    """What losses and gradients are multiplied by."""

    def __init__(self, log: Log, registry: Registry, reader: Reader) -> None:
        self._log, self._registry, self._reader = log, registry, reader

    def scaled(self, lane: Lane, scaler: Any) -> None:
        """The next backward is of a loss that was multiplied by the scale."""
        if scaler.is_enabled():
            lane.loss_scale = self._log.scalar(scaler._scale)

    def unscale_ends(self, lane: Lane, scaler: Any, optimizer: Any) -> None:
        """The scale has been divided out: these are the ready gradients."""
        window = self._registry.window(optimizer)
        if window is None or not scaler.is_enabled():
            return
        window.grad_scale = None
        window.clearing.known()
        self._log.heard(lane, EventKind.UNSCALE, window.index, value=self._log.scalar(scaler._scale))
        if window.ready is None:
            self._reader.read(lane, window)

    def scaler_updated(self, lane: Lane, scaler: Any) -> None:
        """The scale may have changed."""
        if scaler.is_enabled():
            self._log.heard(lane, EventKind.SCALER_UPDATE, value=self._log.scalar(scaler._scale))

    def weighted(self, lane: Lane, scale: Scalar) -> None:
        """The next backward is of a loss that was multiplied by its weight; `scale` will be the total weight, when that is known."""
        lane.loss_scale = scale

    def normalised(self, _: Lane, parameters: list[Any], scale: Scalar | None) -> None:
        """The gradients of a window were divided by the total weight, over all processes: these are the ready ones, but for `scale`."""
        for window in self._registry.holding(frozenset(id(p) for p in parameters)):
            window.clearing.backward_ends()  # a process without a micro-batch has them from the others
            window.clearing.known()
            window.grad_scale = scale
