"""Parameters that are made in the forward pass: other ones in the graph of each loss."""

from __future__ import annotations

import weakref
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from seismograd.capture.graph.parameter_births import ParameterBirths
from seismograd.capture.graph.traversal import leaves_in_order
from seismograd.capture.loop.event_log import OWN_FRAMES, EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.schema import FactKind

LOOKS = (3, 5, 8, 13, 21)  # numbers of the backward, from 1
MIN_TIMES = 2


@dataclass(slots=True)
class RemadeParameters:
    """Looks at the graphs of a few of the first backwards."""

    facts: Facts
    log: EventLog
    parameter_table: ParameterTable
    is_over: bool = False  # no look is left
    _num: int = 0
    _times: int = 0
    _before: list[weakref.ref[torch.Tensor]] = field(default_factory=list[weakref.ref[Any]])
    _shapes: list[torch.Size] = field(default_factory=list[torch.Size])
    _births: ParameterBirths = field(init=False)

    def __post_init__(self) -> None:
        self._births = ParameterBirths(self.log.call_sites)

    def backward_begins(self, _: ThreadState, tensors: Any) -> None:
        """A backward begins."""
        self._num += 1
        self.is_over = self._num >= LOOKS[-1]
        if self._num not in LOOKS:
            return
        listed: tuple[Any, ...] = tensors if isinstance(tensors, tuple) else (tensors,)  # pyright: ignore[reportUnknownVariableType]
        tops = [t.grad_fn if isinstance(t, torch.Tensor) else t.node for t in listed]
        leaves = [each.tensor for each in leaves_in_order(tops)]
        owned = [each for each in leaves if self.parameter_table.owned(each)]
        strangers = [
            each
            for each in leaves
            if isinstance(each, torch.nn.Parameter) and not self.parameter_table.owned(each)
        ]
        shapes = [each.shape for each in strangers]
        is_copied = not owned and self._are_copies(shapes)
        is_new = (
            (bool(owned) or is_copied)
            and shapes == self._shapes
            and all(self._is_gone(each(), strangers, is_copied) for each in self._before)
        )
        self._times = self._times + 1 if strangers and is_new else 0
        self._before, self._shapes = [weakref.ref(each) for each in strangers], shapes
        if self._times and self._num < LOOKS[-1]:
            self._births.listen()
        if self._times >= MIN_TIMES:
            self.facts.report(
                FactKind.PARAMETER_REMADE,
                site=self.log.call_sites.here(OWN_FRAMES),
                num=len(strangers),
                shape=" × ".join(map(str, shapes[0])),
                times=self._times,
                copies=int(is_copied),
                made=self._births.take(strangers[0]),
            )
        if not self._times or self._num == LOOKS[-1]:
            self._births.stop()

    @staticmethod
    def _is_gone(
        former: torch.Tensor | None, strangers: Sequence[torch.Tensor], is_copied: bool
    ) -> bool:
        """Return whether a parameter of before is gone; a copy in a cycle of objects may not yet be
        collected.
        """
        return former is None or (is_copied and not any(each is former for each in strangers))

    def _are_copies(self, shapes: list[torch.Size]) -> bool:
        """Return whether these shapes are those of all that an optimizer holds, or that optimizers
        hold together, once or more often: of other optimizers nothing may be copied.
        """
        held: defaultdict[int, Counter[tuple[int, ...]]] = defaultdict(Counter)
        for each in self.parameter_table.parameters:
            if each.optimizer is not None and each.trainable:
                held[each.optimizer][each.shape] += 1
        found = Counter(map(tuple, shapes))
        together = sum(held.values(), Counter[tuple[int, ...]]())
        return bool(found) and any(
            found == _times(each, found.total() // each.total())
            for each in (together, *held.values())
            if each
        )


def _times(counts: Counter[tuple[int, ...]], factor: int) -> Counter[tuple[int, ...]]:
    return Counter({shape: num * factor for shape, num in counts.items()})
