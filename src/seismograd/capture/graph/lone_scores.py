"""Find log-probabilities of samples that reach a loss by sums, means and multiplications by single
numbers alone: nothing says what a sample is worth, so the expected gradient is zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from seismograd.capture.graph.drawn_samples import MIN_ROWS, DrawnSample, holds
from seismograd.capture.graph.loss_graph import SCALING, LossGraph, below_views
from seismograd.capture.graph.traversal import SAME_VALUES, passes, saved, shape_of, source
from seismograd.capture.loop.optimizer_window import OptimizerWindow

MAX_CHANGE = 0.1  # of the factor from one check to the next: a temperature moves, a reward jumps
MAX_HOPS = 64
MEANS = frozenset({"MeanBackward0", "MeanBackward1"})
ADDING = frozenset({"AddBackward0", "SubBackward0", "RsubBackward1"})
LINEAR = (
    SAME_VALUES
    | MEANS
    | ADDING
    | {"AliasBackward0", "NegBackward0", "SqueezeBackward0", "SumBackward0", "SumBackward1"}
)


@dataclass(slots=True)
class ScoreSighting:
    """How often the log-probability of a line's samples was alone in a loss, with which factor,
    each time after another step: how many of them there were.
    """

    times: int = 0
    factor: float = 0.0
    step: int = -1
    is_refuted: bool = False

    def differs_from(self, factor: float) -> bool:
        """Return whether the factor was another one before."""
        return self.times > 0 and abs(factor - self.factor) > MAX_CHANGE * self.factor


@dataclass(slots=True)
class LoneScores:
    """Counts them by the line of `sample()`; what is otherwise once is never counted again."""

    _seen: dict[int, ScoreSighting] = field(default_factory=dict[int, ScoreSighting])

    def times(
        self,
        graph: LossGraph,
        draw: DrawnSample,
        made: set[Any],
        window: OptimizerWindow,
    ) -> int:
        """Return how often it was so in a loss that the optimizer of `window` minimises, this one
        included; 0 where it is not in this one.
        """
        seen = self._seen.setdefault(draw.site, ScoreSighting())
        if seen.is_refuted or len(draw.value) < MIN_ROWS:
            return 0
        square = next((each for each in graph.reaching(made) if _is_score_of(each, draw)), None)
        if square is None:
            return 0
        factor = _factor(graph, square, made)
        if factor is None or factor <= 0 or seen.differs_from(factor):
            seen.is_refuted = True
            return 0
        if window.num_steps == seen.step:  # micro-batches, or other steps of a rollout
            return 0
        seen.times, seen.factor, seen.step = seen.times + 1, factor, window.num_steps
        return seen.times


def _is_score_of(node: Any, draw: DrawnSample) -> bool:
    """Return whether a node squares the difference of a sample and the mean it was drawn with."""
    below = below_views(source(node)) if node.name() == "PowBackward0" else None
    if below is None or below.name() != "SubBackward0" or source(below) is not None:
        return False
    mean = below_views(source(below, 1))
    if mean is None or mean._sequence_nr() not in draw.numbers or draw.mean is None:
        return False
    difference = saved(node, "self")
    if difference is None or difference.shape != draw.value.shape:
        return False
    if difference.device != draw.value.device or difference.shape != draw.mean.shape:
        return False
    given = difference + draw.mean
    return bool(torch.isclose(given, draw.value, rtol=1e-4, atol=1e-5).all()) or holds(
        given, draw.value
    )


def _factor(graph: LossGraph, square: Any, made: set[Any]) -> float | None:
    """Return by what the log-probability that holds this square is multiplied in the loss; `None`
    where it gets there otherwise, or what it was computed from does.
    """
    chain = _chain(graph, square)
    density = _density(chain)
    if density is None:
        return None
    after = chain[chain.index(density) + 1 :]
    made_of = graph.reaching(made)
    within, stack = {density}, [density]
    while stack:
        for below, _ in stack.pop().next_functions:
            if below in made_of and below not in within:
                within.add(below)
                stack.append(below)
    if made_of - within != set(after) or not any(_is_mean(each) for each in after):
        return None
    factor, passed = 1.0, density
    for node in after:
        step = _step(node, passed)
        if step is None:
            return None
        factor, passed = factor * step, node
    return factor


def _chain(graph: LossGraph, node: Any) -> list[Any]:
    """Return a node and those that compute with it one after the other, up to the loss; no further
    than to where there are several.
    """
    chain = [node]
    while len(readers := graph.readers[chain[-1]]) == 1 and len(chain) < MAX_HOPS:
        chain.append(readers[0])
    return chain


def _density(chain: list[Any]) -> Any:
    """Return the node with the logarithm of a normal density, as torch computes it, in a chain that
    begins with the square: without the constants. `None` where it is another formula.
    """
    named = [each for each in chain if not passes(each)]
    if [each.name() for each in named[1:3]] != ["NegBackward0", "DivBackward0"]:
        return None
    if source(named[2], 1) is None:
        return named[2]  # the scale has no graph
    if len(named) < 4 or named[3].name() != "SubBackward0" or source(named[3], 1) is None:
        return None
    return named[3]


def _is_mean(node: Any) -> bool:
    below = source(node)
    size = 1
    for each in shape_of(below):
        size *= each
    return node.name() in MEANS and size >= MIN_ROWS


def _step(node: Any, passed: Any) -> float | None:
    """Return by what an operation multiplies what it is given from `passed`; `None` where that is
    no single number.
    """
    name: str = node.name()
    position = 0 if source(node) is passed else 1
    if name in SCALING:
        number = saved(node, "other" if position == 0 else "self")
        if number is None or number.numel() != 1 or (position == 1 and name != "MulBackward0"):
            return None
        value = float(number)
        return value if name.startswith("Mul") else 1 / value if value else None
    if name not in LINEAR:
        return None
    is_turned = (
        name == "NegBackward0"
        or (name == "SubBackward0" and position == 1)
        or (name == "RsubBackward1" and position == 0)
    )
    return -1.0 if is_turned else 1.0
