"""Measure the gradient that reaches a tensor on its way back: hooks on nodes of the graph, not on
the tensors, which would keep them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from torch import Tensor

from seismograd.capture.xray.call_record import CallRecord
from seismograd.capture.xray.measured import Fetched, is_measurable, size_of
from seismograd.tensors.isolation import without_user_modes

OUTPUT, INPUT = "output", "input"
Place = tuple[Any, int]  # a node of the graph, and the number of its result
InTime = Callable[[Tensor], list[Tensor]]  # the RMS of the steps that are kept


class SignalHooks:
    """Measures each tensor once, for all records that it concerns."""

    def __init__(self, fetched: Fetched) -> None:
        self._fetched = fetched
        self._wanted: dict[Place, list[tuple[CallRecord, str]]] = {}
        self._in_time: dict[Place, list[tuple[list[CallRecord], str, InTime]]] = {}
        self._undo: list[Callable[[], None]] = []
        self.cost_s = 0.0

    def want(self, node: Any, number: int, record: CallRecord, what: str) -> None:
        """Measure the gradient of a node's result as that of the `OUTPUT` or `INPUT` of a call."""
        self._place(node, number).append((record, what))

    def want_in_time(
        self, node: Any, number: int, records: list[CallRecord], name: str, in_time: InTime
    ) -> None:
        """Measure it for each of several steps in time, into the field of this name."""
        self._place(node, number)
        self._in_time.setdefault((node, number), []).append((records, name, in_time))

    def of_tensor(self, tensor: Tensor, records: list[CallRecord], in_time: InTime) -> None:
        """Measure the gradient of a leaf of ours in the same way."""

        def listen(gradient: Tensor) -> None:
            self._measure_in_time(gradient, records, "input_signal_rms", in_time)

        leaf: Any = tensor
        self._undo.append(leaf.register_hook(listen).remove)

    def remove(self) -> None:
        """Take all hooks off, and let go of the graph."""
        for undo in self._undo:
            undo()
        self._undo.clear()
        self._wanted.clear()
        self._in_time.clear()

    def _place(self, node: Any, number: int) -> list[tuple[CallRecord, str]]:
        place = (node, number)
        if place not in self._wanted:
            self._wanted[place] = []
            self._undo.append(node.register_prehook(self._listener(place)).remove)
        return self._wanted[place]

    def _listener(self, place: Place) -> Callable[[tuple[Any, ...]], None]:
        def listen(incoming: tuple[Any, ...]) -> None:
            gradient: Any = incoming[place[1]] if place[1] < len(incoming) else None
            if is_measurable(gradient):
                self._measure(place, gradient)

        return listen

    def _measure(self, place: Place, gradient: Tensor) -> None:
        began_s = time.perf_counter()
        wanted = [each for each in self._wanted.get(place, ()) if not _has(*each)]
        if wanted:
            with without_user_modes():
                size = size_of(gradient)
            for record, what in wanted:
                if what == OUTPUT:
                    record.has_signal = True
                    self._fetched.add(record.numbers, "signal_rms", size.rms)
                    self._fetched.add(record.numbers, "signal_largest", size.largest)
                else:
                    self._fetched.add(record.numbers, "input_signal_rms", size.rms)
        for records, name, in_time in self._in_time.get(place, ()):
            self._measure_in_time(gradient, records, name, in_time)
        self.cost_s += time.perf_counter() - began_s

    def _measure_in_time(
        self, gradient: Tensor, records: list[CallRecord], name: str, in_time: InTime
    ) -> None:
        if any(name in record.numbers for record in records):
            return
        with without_user_modes():
            sizes = in_time(gradient)
        for record, size in zip(records, sizes, strict=True):
            record.has_signal = True
            self._fetched.add(record.numbers, name, size)


_FIELD = {OUTPUT: "signal_rms", INPUT: "input_signal_rms"}


def _has(record: CallRecord, what: str) -> bool:
    """Return whether an earlier backward of the step has come by."""
    return _FIELD[what] in record.numbers
