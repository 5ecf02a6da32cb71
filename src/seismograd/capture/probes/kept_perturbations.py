"""Detect perturbations of weights that are kept: between two backwards of a step something moves
weights up the gradient of the first, as SAM does, and the step begins from where they are then.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isclose, isfinite
from typing import Any, TypeVar

import torch
from torch.cuda import is_initialized

from seismograd.capture.loop.error_guard import ErrorGuard
from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.look_schedule import is_looked_at
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.probes.weight_slice import can_be_followed
from seismograd.capture.source.statements import statement_at
from seismograd.schema import FactKind
from seismograd.tensors.cuda_graph import is_capturing
from seismograd.tensors.freed_memory import PLAIN_TYPES, is_readable
from seismograd.tensors.isolation import without_user_modes

MAX_WEIGHTS = 8  # of an optimizer, from the first to the last
MAX_SCALARS = 1 << 20  # of each, the first ones
STRAIGHT = 0.99  # cosine of the way and the gradient
SAME = 1e-3  # by which lengths differ that are the same
CERTAIN = 3  # looks in a row, after which they become rare

Read = TypeVar("Read")


@dataclass(slots=True)
class MovedWeight:
    """The first scalars of a weight as a step left them, and of its gradient in the first backward
    after that.
    """

    weight: weakref.ref[torch.Tensor]
    left: torch.Tensor
    gradient: torch.Tensor | None = None
    norm: float = 0.0  # of all of the gradient

    def take_gradient(self) -> None:
        """Remember the gradient."""
        weight = self.weight()
        gradient = None if weight is None else weight.grad
        first = _first(gradient)
        if gradient is not None and first is not None and first.shape == self.left.shape:
            self.gradient, self.norm = first.clone(), _norm(gradient)

    def part(self) -> float | None:
        """Return how often the gradient has been added to what the step left; 0 where that has not
        changed, and `None` where it has gone elsewhere.
        """
        now = _first(self.weight())
        if now is None or now.shape != self.left.shape:
            return None
        way = now.double() - self.left.double()
        if not bool(way.any()):
            return 0.0
        if self.gradient is None:
            return None
        gradient = self.gradient.double()
        along, length, size = (
            float((a * b).sum()) for a, b in ((way, gradient), (way, way), (gradient, gradient))
        )
        if not isfinite(length * size) or along <= STRAIGHT * (length * size) ** 0.5:
            return None
        return (length / size) ** 0.5


@dataclass(slots=True)
class Observed:
    """The step of an optimizer that is observed, from the end of the one before."""

    window: OptimizerWindow
    weights: list[MovedWeight] = field(default_factory=list[MovedWeight])
    norm: float | None = None  # of all gradients of the first backward, once that has ended

    def step_ended(self) -> None:
        """Remember the weights."""
        held = [p for p in self.window.held() if can_be_followed(p)]
        chosen = held[:: max(1, -(-len(held) // MAX_WEIGHTS))]
        firsts = [(weight, _first(weight)) for weight in chosen]
        self.weights = [MovedWeight(weakref.ref(w), f.clone()) for w, f in firsts if f is not None]
        self.norm = None

    def backward_ended(self) -> None:
        """Remember the gradients of the first backward."""
        for each in self.weights:
            each.take_gradient()
        gradients = [p.grad for p in self.window.held() if p.grad is not None]
        are_plain = all(type(g) in PLAIN_TYPES and is_readable(g) for g in gradients)
        squares = [_norm(gradient) ** 2 for gradient in gradients] if are_plain else [0.0]
        self.norm = sum(squares) ** 0.5

    def lengths(self) -> list[float]:
        """Return how far the weights have gone up the gradient: all together, or, where each has
        gone a way of its own, each one; nothing where any has gone elsewhere.
        """
        parts = [each.part() for each in self.weights]
        moved = [(p, each) for p, each in zip(parts, self.weights, strict=True) if p]
        if not moved or not self.norm or None in parts:
            return []
        first = moved[0][0]
        if len(moved) > 1 and all(isclose(part, first, rel_tol=SAME) for part, _ in moved):
            return [first * self.norm]
        return [part * each.norm for part, each in moved]


@dataclass(slots=True)
class KeptPerturbations:
    """Observes a step now and then, where the one at a look had several backwards. `switch` has it
    hear of backwards and steps, which it does only then.

    The length of the way must be the same each time, whatever the gradient: that is what makes it a
    perturbation, and no step of the script's own. A perturbation that is taken back right after a
    step is still in what that step left, so that the way to the next one is another.
    """

    guard: ErrorGuard
    facts: Facts
    log: EventLog
    registry: OptimizerRegistry
    switch: Callable[[bool], None]
    _observed: Observed | None = None
    # by optimizer
    _num_looks: Counter[int] = field(default_factory=Counter[int])
    _times: Counter[int] = field(default_factory=Counter[int])
    _lengths: dict[int, list[float]] = field(default_factory=dict[int, "list[float]"])

    def look(self, _: ThreadState, optimizer: Any, *__: object) -> None:
        """Decide, as a step begins that is looked at, whether the next one is observed."""
        window = self.registry.known(optimizer)
        if (
            window is None
            or window.num_heard < 2
            or self._observed is not None
            or (is_initialized() and is_capturing())
        ):
            return
        number = self._num_looks[window.index] = self._num_looks[window.index] + 1
        if is_looked_at(number) or 0 < self._times[window.index] < CERTAIN:
            self._observed = Observed(window)
            self.switch(True)

    def step_ends(self, _: ThreadState, optimizer: Any) -> None:
        """Remember the weights as the step before leaves them, or hear no more."""
        observed = self._observed
        if observed is None:
            self.switch(False)
        elif self.registry.known(optimizer) is observed.window:
            self._read(observed.step_ended)

    def backward_ends(self, _: ThreadState) -> None:
        """Remember the gradients of the first backward."""
        observed = self._observed
        if (
            observed is not None
            and observed.norm is None
            and observed.weights
            and observed.window.num_heard == 1
        ):
            self._read(observed.backward_ended)

    def step_begins(self, _: ThreadState, optimizer: Any, *__: object) -> None:
        """Compare the weights that the step begins from with those of the first backward."""
        observed = self._observed
        if (
            observed is None
            or observed.norm is None
            or self.registry.known(optimizer) is not observed.window
        ):
            return
        several = observed.window.num_heard > 1
        self._count(observed, (self._read(observed.lengths) if several else None) or [])

    def _read(self, read: Callable[[], Read]) -> Read | None:
        """Read weights and gradients; `None` where that has failed."""
        with without_user_modes():
            return self.guard.call("perturbations", read)

    def _count(self, observed: Observed, lengths: list[float]) -> None:
        """Count the look, if the weights have gone the same length as at the last one."""
        self._observed = None
        index = observed.window.index
        last, self._lengths[index] = self._lengths.get(index), lengths
        if not lengths:
            self._times[index] = 0
            return
        is_same = last is not None and len(last) == len(lengths)
        is_same = is_same and all(map(_is_close, lengths, last or ()))
        self._times[index] = self._times[index] + 1 if is_same else 1
        if is_looked_at(self._times[index]):
            with without_user_modes():
                self._report(observed, max(lengths))

    def _report(self, observed: Observed, length: float) -> None:
        table, window = self.registry.parameter_table, observed.window
        moved = [p for each in observed.weights if each.part() and (p := each.weight()) is not None]
        step = window.step_heard
        site = -1 if step is None else step.site
        at = self.log.call_sites.sites[site] if site >= 0 else None
        self.facts.report(
            FactKind.KEPT_PERTURBATION,
            site=site,
            optimizer=window.index,
            parameters=[table.parameters[table.column(p)].name for p in moved if p in table],
            name=window.name,
            times=self._times[window.index],
            length=length,
            text="" if at is None else statement_at(at.file, at.line),
        )


def _norm(gradient: torch.Tensor) -> float:
    return float(gradient.square().sum()) ** 0.5


def _is_close(one: float, other: float) -> bool:
    return isclose(one, other, rel_tol=SAME)


def _first(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """Return the first scalars of a tensor, in its own memory; `None` where they cannot be read."""
    if (
        tensor is None
        or type(tensor) not in PLAIN_TYPES
        or not tensor.is_contiguous()
        or not is_readable(tensor)
    ):
        return None
    return tensor.detach().view(-1)[:MAX_SCALARS]
