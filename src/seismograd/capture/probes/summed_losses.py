"""Compare the terms of a loss that are summed before one backward, by the gradients that arrive
from each of them where their paths meet: at the activations that several terms are computed from.

These are the gradients of the backward itself, so nothing is computed twice. They stand for those
of the shared weights, which are these times the derivative of the activations, the same for each
term (as in Sener, Koltun 2018, Multi-task learning as multi-objective optimization, section 3.3).

Shapes: L terms.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import torch

from seismograd.capture.graph.loss_sums import Addend, addends
from seismograd.capture.graph.traversal import LEAF, source
from seismograd.capture.loop.call_sites import CallSites
from seismograd.capture.loop.iteration import Iteration
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.probes.per_loss_gradients import FIRST, MAX_LOSSES, ComparedLosses
from seismograd.capture.source.summed_terms import names_of_terms
from seismograd.schema import SAMPLE_EVERY
from seismograd.tensors.device_scalars import Scalar
from seismograd.tensors.isolation import without_user_modes

MAX_NODES = 20_000
# Of a line, where no more was asked for: ever more rarely, and not always the same of several kinds
# of batches that take turns. The first ones are like no other.
NUMBERS = frozenset((1 << power) + power - 2 for power in range(2, 62))
EARLIEST = min(NUMBERS)
MAX_BYTES = 64 * 2**20  # of the gradients that are kept until the backward ends
NO_COLUMNS = np.zeros(0, np.int64)

MULTIPLYING = "MulBackward0"

Arrived = dict[tuple[Any, int], torch.Tensor]  # by the result of an operation: its gradient


@dataclass(slots=True)
class _Compared:
    """The terms of the loss whose backward runs: what to call them, how they are weighted, and the
    gradients that have arrived from each where it meets another.
    """

    iteration: Iteration
    sites: list[int]
    factors: list[float]
    arrived: list[Arrived]
    scale: Scalar | None  # of a loss scaler
    num_bytes: int = 0
    undo: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])


class SummedLosses:
    """Observes a few backwards of each line, by hooks on nodes that return nothing.

    Only terms that share a part of their forward pass meet; a penalty on weights does not. A term
    that the script gives less weight than another, and that is the smaller of both, is small on
    purpose: that pair is left out.
    """

    def __init__(self, call_sites: CallSites, on: bool, every_tenth: bool) -> None:
        self._call_sites, self._is_on, self.every_tenth = call_sites, on, every_tenth
        self._names: dict[tuple[int, int], tuple[str, ...]] = {}
        self.running: _Compared | None = None
        self.named_at: set[int] = set()  # lines at which the script names and compares its losses

    def may_look(self, number: int) -> bool:
        """Return whether the backward of a line with this number, from 1, is looked at."""
        if not self._is_on:
            return False
        if self.every_tenth:
            return number <= FIRST or number % SAMPLE_EVERY == 0
        return number in NUMBERS

    def backward_begins(self, thread_state: ThreadState, site: int, top: Any) -> None:
        """Install the hooks for the loss whose graph begins at `top`."""
        self._stop()
        if thread_state.loss_scale is not None and top is not None and top.name() == MULTIPLYING:
            top = source(top)  # what a scaler multiplies is not the script's weight
        found = [] if top is None or site in self.named_at else addends(top)
        factors = [each.factor for each in found if each.factor is not None]
        if not 2 <= len(found) <= MAX_LOSSES or len(factors) < len(found):
            return
        of_terms = _below(found)
        if of_terms is None:
            return
        names = self._named(site, found)
        self.running = running = _Compared(
            thread_state.iteration,
            [self._call_sites.labelled(name) for name in names],
            factors,
            [{} for _ in found],
            thread_state.loss_scale,
        )
        for node, terms in of_terms.items():
            if terms & (terms - 1):
                continue  # of several
            edges = [
                (position, below, number)
                for position, (below, number) in enumerate(node.next_functions)
                if below is not None and of_terms.get(below, terms) != terms
            ]
            if edges:
                listener = _listener(running, terms.bit_length() - 1, edges)
                running.undo.append(node.register_hook(listener).remove)

    def backward_ends(self) -> None:
        """Compare what has arrived."""
        running = self.running
        self._stop()
        if running is None:
            return
        for i, j in combinations(range(len(running.sites)), 2):
            shared = running.arrived[i].keys() & running.arrived[j].keys()
            if not shared:
                continue
            with without_user_modes():
                products = _products(running.arrived[i], running.arrived[j], list(shared))
            running.iteration.compared.append(
                ComparedLosses(
                    (running.sites[i], running.sites[j]),
                    NO_COLUMNS,
                    products,
                    np.ones((2, 1), np.bool_),
                    running.scale,
                    weights=(abs(running.factors[i]), abs(running.factors[j])),
                )
            )

    def _stop(self) -> None:
        running, self.running = self.running, None
        if running is not None:
            for undo in running.undo:
                undo()

    def _named(self, site: int, found: list[Addend]) -> tuple[str, ...]:
        """Return what to call the terms: their texts, else their operations."""
        key = site, len(found)
        if key not in self._names:
            place = self._call_sites.sites[site] if site >= 0 else None
            names = None if place is None else names_of_terms(place.file, place.line, len(found))
            self._names[key] = names or tuple(
                f"{re.sub(r'Backward[0-9]+$', '', each.node.name())} #{number}"
                for number, each in enumerate(found, start=1)
            )
        return self._names[key]


def _below(found: Sequence[Addend]) -> dict[Any, int] | None:
    """Return the operations below the terms, and which terms depend on each, as bits; the leaves
    are not among them. `None` where there are too many.
    """
    of_terms = dict[Any, int]()
    for position, addend in enumerate(found):
        bit = 1 << position
        stack = [addend.node]
        while stack:
            node = stack.pop()
            known = of_terms.get(node, 0)
            if known & bit:
                continue
            of_terms[node] = known | bit
            if len(of_terms) > MAX_NODES:
                return None
            stack += [
                below
                for below, _ in node.next_functions
                if below is not None and below._sequence_nr() != LEAF
            ]
    return of_terms


def _listener(
    running: _Compared, term: int, edges: list[tuple[int, Any, int]]
) -> Callable[[tuple[Any, ...], tuple[Any, ...]], None]:
    def listen(incoming: tuple[Any, ...], _outgoing: tuple[Any, ...]) -> None:
        arrived = running.arrived[term]
        for position, below, number in edges:
            gradient: Any = incoming[position] if position < len(incoming) else None
            if type(gradient) is not torch.Tensor or gradient.layout is not torch.strided:
                continue
            running.num_bytes += gradient.nbytes
            if running.num_bytes > MAX_BYTES:
                for each in running.arrived:
                    each.clear()
                return
            before = arrived.get((below, number))
            with without_user_modes():
                arrived[below, number] = gradient if before is None else before + gradient

    return listen


def _products(one: Arrived, other: Arrived, shared: list[tuple[Any, int]]) -> torch.Tensor:
    """Return the inner products, in double precision  # (2, 2, 1)."""
    of_both = [[part[key].reshape(-1).double() for key in shared] for part in (one, other)]
    cells = [
        torch.stack([torch.dot(a, b) for a, b in zip(first, second, strict=True)]).sum()
        for first in of_both
        for second in of_both
    ]
    return torch.stack(cells).reshape(2, 2, 1)
