"""Detect copies of what an optimizer trains: their weights begin as those of it, or are set to them
again and again, as those of a target network, an average or an old policy.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.cuda import is_initialized

from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.look_schedule import is_looked_at
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.probes.weight_slice import WeightSlice, can_be_followed
from seismograd.schema import FactKind, FloatArray
from seismograd.tensors.cuda_graph import is_capturing

MAX_WEIGHTS = 128  # of those that no optimizer trains
MAX_LIKE = 8  # weights of the same shape that each is compared with
MAX_WAITS = 64  # looks for which a device is waited for
MIN_WAY = 0.02  # of the way to the trained weights
MIN_JUMPS = 2  # to them, of a weight that did not begin with them


@dataclass(slots=True)
class PairedWeight:
    """A weight that no optimizer trains, and the trained one that it seems to be a copy of."""

    name: str
    scalars: WeightSlice
    source: WeightSlice
    of: str  # the name of the trained one
    is_alike: bool  # it began with the same scalars
    last: FloatArray
    times: int = 0  # that it was found nearer to the trained one

    def look(self) -> bool:
        """Return whether the weight has gone towards the trained one since the last look."""
        now, source = _read(self.scalars), _read(self.source)
        if now is None or source is None:
            return False
        before, self.last = self.last, now
        way, moved = (source - before).ravel(), (now - before).ravel()
        length = float(way @ way)
        if not moved.any() or not 0 < length < np.inf:
            return False
        part = float(way @ moved) / length
        self.times += part >= (MIN_WAY if self.is_alike else 0.5)
        return True

    @property
    def is_copy(self) -> bool:
        """Return whether it is certain by now."""
        return self.is_alike or self.times >= MIN_JUMPS


@dataclass(slots=True)
class CopiedWeights:
    """Looks where symmetry and settings are looked at: at the first steps and at sampled ones."""

    facts: Facts
    registry: OptimizerRegistry
    _version: int = -1
    _pairs: list[PairedWeight] = field(default_factory=list[PairedWeight])
    # by the ids of what was looked at: a set of tensors would compare their numbers
    _known: dict[int, weakref.ref[torch.Tensor]] = field(
        default_factory=dict[int, "weakref.ref[torch.Tensor]"]
    )
    _others: set[str] = field(default_factory=set[str])  # whose shape no trained one has
    _silent: set[str] = field(default_factory=set[str])  # that an optimizer holds for nothing
    _times: int = 0
    _num_looks: int = 0

    def step_begins(self, _: ThreadState, optimizer: Any, *__: object) -> None:
        """A step of an optimizer begins, whose weights are still those of the backward."""
        window = self.registry.known(optimizer)
        if window is None or window.steps_within or (is_initialized() and is_capturing()):
            return
        table = self.registry.parameter_table
        fresh: list[PairedWeight] = []
        if table.version != self._version:
            self._version = table.version
            fresh = self._pair()
        if fresh:
            self._pairs += fresh
        elif not self._may_look():
            return
        moved = [each.look() for each in self._pairs if each not in fresh]
        copies = [each for each in self._pairs if each.is_copy]
        is_new = any(each.is_alike for each in fresh)
        if any(moved):
            self._times += 1
        if copies and (is_new or (any(moved) and is_looked_at(self._times))):
            self._report(copies, -1 if window.step_heard is None else window.step_heard.site)

    def _may_look(self) -> bool:
        """Return whether there is something to look at, and time to wait for its device."""
        self._num_looks += 1
        if not self._pairs:
            return False
        weight = self._pairs[0].scalars.weight()
        is_near = weight is None or weight.is_cpu
        return is_near or self._num_looks <= MAX_WAITS or is_looked_at(self._num_looks)

    def _pair(self) -> list[PairedWeight]:
        """Return new pairs of a weight that no optimizer trains and a trained one."""
        table = self.registry.parameter_table
        models = {table.model(column) for column in range(len(table.parameters))}
        strays = [
            (tensor, column)
            for tensor, column in table.unowned(models)
            if can_be_followed(tensor) and not self._is_known(tensor)
        ]
        for window in self.registry.windows:
            for tensor in window.held():
                if tensor.requires_grad and tensor.grad is None and tensor in table:
                    column = table.column(tensor)
                    self._silent.add(table.parameters[column].name)
                    if can_be_followed(tensor) and not self._is_known(tensor):
                        strays.append((tensor, column))
        if not strays:
            return []
        trained: defaultdict[torch.Size, list[tuple[str, torch.Tensor]]] = defaultdict(list)
        for window in self.registry.windows:
            for tensor in window.held():
                if tensor in table and can_be_followed(tensor) and tensor.grad is not None:
                    name = table.parameters[table.column(tensor)].name
                    trained[tensor.shape].append((name, tensor))
        found: list[PairedWeight] = []
        for tensor, column in strays[:: -(-len(strays) // MAX_WEIGHTS)]:
            self._known[id(tensor)] = weakref.ref(tensor)
            parameter = table.parameters[column]
            if tensor.shape not in trained:
                self._others.add(parameter.name)
            elif parameter.registered:
                pair = _paired(parameter.name, tensor, trained[tensor.shape])
                found += [] if pair is None else [pair]
        return found

    def _is_known(self, tensor: torch.Tensor) -> bool:
        reference = self._known.get(id(tensor))
        return reference is not None and reference() is tensor

    def _report(self, copies: list[PairedWeight], site: int) -> None:
        table = self.registry.parameter_table
        held = [
            p
            for p in table.parameters
            if (p.optimizer is None or p.name in self._silent) and p.trainable and p.registered
        ]
        names = [each.name for each in copies]
        paired = {each.name for each in self._pairs} | self._others
        followed = set(names)
        names += [
            each.name
            for each in held
            if each.name not in paired and _beside(each.name, paired) <= followed
        ]
        self.facts.report(
            FactKind.COPIED_WEIGHTS,
            site=site,
            parameters=names,
            of=copies[0].of,
            times=max(each.times for each in copies),
        )


def _paired(
    name: str, tensor: torch.Tensor, trained: list[tuple[str, torch.Tensor]]
) -> PairedWeight | None:
    """Return the weight with the trained one of the same scalars, else with the one that is called
    most like it.
    """
    scalars = WeightSlice.of(tensor)
    numbers = _read(scalars)
    if numbers is None or np.ptp(numbers) == 0:
        return None
    best: PairedWeight | None = None
    for of, other in sorted(trained, key=lambda each: -_common_end(name, each[0]))[:MAX_LIKE]:
        if other.device != tensor.device or other.dtype != tensor.dtype:
            continue
        source = WeightSlice.of(other)
        there = _read(source)
        is_alike = there is not None and bool((there == numbers).all())
        if best is None or is_alike:
            best = PairedWeight(name, scalars, source, of, is_alike, numbers)
        if is_alike:
            break
    return best


def _read(scalars: WeightSlice) -> FloatArray | None:
    kept = scalars.read(scalars.weight())
    return None if kept is None else scalars.numbers(kept)


def _common_end(one: str, other: str) -> int:
    """Return how many parts of two names are the same, from the end."""
    pairs = zip(reversed(one.split(".")), reversed(other.split(".")), strict=False)
    return next((num for num, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _beside(name: str, others: set[str]) -> set[str]:
    """Return those that are nearest to a name in the tree of modules; empty sets apart."""
    parts = name.split(".")
    for num in range(len(parts) - 1, -1, -1):
        start = "".join(f"{part}." for part in parts[:num])
        if near := {each for each in others if each.startswith(start)}:
            return near
    return others
