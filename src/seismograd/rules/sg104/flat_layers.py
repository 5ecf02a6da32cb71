"""Track the layers that a custom autograd Function cuts off: its backward returns only zeros."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from seismograd.analysis.block_rows import as_list, columns_where, integers
from seismograd.i18n import Message, say
from seismograd.schema import Fact, IntArray, Parameter, RowBatch, State


@dataclass(slots=True)
class FlatLayer:
    """What one fact says is cut off, and in how many steps in a row it got only zeros. `reached`:
    the iteration in which these were enough, -1 before that; they go on until it `is_over`.
    """

    fact: Fact
    num: int = 0
    first: int = -1
    last: int = -1
    reached: int = -1
    is_over: bool = False


@dataclass(slots=True)
class FlatLayers:
    """The layers by optimizer, and when each parameter had its first gradient other than zero: what
    never had one was never meant to, as behind a Function that multiplies by zero on purpose.
    """

    by_optimizer: dict[int, list[FlatLayer]] = field(default_factory=dict[int, list[FlatLayer]])
    _first: dict[str, int] = field(default_factory=dict[str, int])  # iteration
    _known: Sequence[Parameter] = ()
    _left: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))  # columns

    def learn(self, fact: Fact) -> None:
        """Take a fact about parameters that no other one is about."""
        layers = self.by_optimizer.setdefault(fact.optimizer, [])
        names = {name for layer in layers for name in layer.fact.parameters}
        if names.isdisjoint(fact.parameters):
            layers.append(FlatLayer(fact))

    def read(self, block: RowBatch, least: int) -> None:
        """Read the gradients of the next iterations; so many steps in a row are enough."""
        iterations = integers(block.steps, "iteration")
        self._note_first(block, iterations)
        for optimizer, layers in self.by_optimizer.items():
            for layer in layers:
                self._follow(layer, block, optimizer, iterations, least)

    def cut_off(self, until: float) -> Iterator[tuple[int, FlatLayer]]:
        """Yield the layers for which there were enough steps by an iteration, with their
        optimizers.
        """
        for optimizer, layers in self.by_optimizer.items():
            for layer in layers:
                if 0 <= layer.reached <= until:
                    yield optimizer, layer

    def _note_first(self, block: RowBatch, iterations: IntArray) -> None:
        if block.parameters is not self._known:
            self._known = block.parameters
            self._left = columns_where(block.parameters, lambda p: p.name not in self._first)
        if not len(self._left):
            return
        finite = block.state[:, self._left] == State.FINITE
        there = finite.any(axis=0)
        for column, row in zip(
            as_list(self._left[there]), as_list(finite.argmax(axis=0)[there]), strict=True
        ):
            self._first[self._known[column].name] = int(iterations[row])
        self._left = self._left[~there]

    def _follow(
        self,
        layer: FlatLayer,
        block: RowBatch,
        optimizer: int,
        iterations: IntArray,
        least: int,
    ) -> None:
        if layer.is_over:
            return
        own = columns_where(block.parameters, lambda each: each.name in layer.fact.parameters)
        others = columns_where(
            block.parameters,
            lambda p: p.optimizer == optimizer and p.name not in layer.fact.parameters,
        )
        late = iterations >= layer.fact.iteration
        for row in as_list(np.flatnonzero(late & (block.state[:, own] >= State.ZERO).any(axis=1))):
            is_zero = bool((block.state[row, own] == State.ZERO).all())
            if not is_zero and layer.reached >= 0:
                layer.is_over = True
                return
            if not is_zero:
                layer.num = 0
            elif (block.state[row, others] == State.FINITE).any():
                layer.num, layer.last = layer.num + 1, int(iterations[row])
                layer.first = layer.last if layer.num == 1 else layer.first
                if layer.num >= least and layer.reached < 0 and self._trained_before(layer):
                    layer.reached = layer.last

    def _trained_before(self, layer: FlatLayer) -> bool:
        names = layer.fact.parameters
        return all(self._first.get(name, layer.first) < layer.first for name in names)


def words_of_flat_function(layer: FlatLayer) -> tuple[Message, Message, str]:
    """Return cause, advice and excerpt."""
    fact, function = layer.fact, layer.fact.text("function")
    return (
        say(
            "{function}.backward returns only zeros for the gradients that it gets, so {num} "
            "{num:parameter|parameters} before it, {first} among them, {num:has|have} got none "
            "since step {since} at the latest, while other layers train: all of its inputs lie "
            "where it passes nothing on",
            function=function,
            num=int(fact.number("num")),
            first=fact.parameters[0],
            since=layer.first,
        ),
        say(
            "such units do not recover: keep the inputs in the interval where the gradient passes, "
            "with a normalization before it or a lower learning rate, or pass the gradient on "
            "everywhere, as a straight-through estimator without a clip does"
        ),
        f"return grad_output  # in {function}.backward: for all inputs",
    )
