"""Measure how far the first losses of a classifier are from what a guess gives, and what makes its
logits large: the weights of the last layer, the inputs, or what lies between.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from seismograd.capture.graph.loss_graph import LossGraph, below_views, is_leaf
from seismograd.capture.graph.loss_inputs import JOINING, MAX_OPERATIONS
from seismograd.capture.graph.loss_operands import PASSING, made_by
from seismograd.capture.graph.loss_reduction import NLL
from seismograd.capture.graph.traversal import saved, signed, source
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.schema import FactKind, Site
from seismograd.tensors.isolation import without_user_modes

LOOKS = 2  # at each line
MAX_LINES = 8
MAX_NUMBERS = 1 << 20  # of a tensor that is read
MAX_HOPS = 64  # nodes from the loss function to the last layer
OFF = 0.05  # how far the logarithm of a sum of probabilities may be from 0
TOLERANCE = 1e-3  # of the sum of a soft target
LAYERS = {  # where the weight and the data of a layer are, and the name that the data is saved by
    "AddmmBackward0": (2, 1, "mat1"),
    "MmBackward0": (1, 0, "self"),
    "ConvolutionBackward0": (1, 0, "input"),
}
# what may stand between a last layer and the loss function: nothing that bounds or chooses
ADDING = (PASSING - {"ClampBackward0", "ClampBackward1", "ClampMinBackward0"}) | {
    "AddBackward0",
    "AvgPool2DBackward0",
    "MeanBackward1",
    "SubBackward0",
    "SumBackward1",
}
MULTIPLYING = frozenset(  # by what has no graph
    {"BmmBackward0", "DivBackward0", "MmBackward0", "MulBackward0", "SparseAddmmBackward0"}
)


class Guess(NamedTuple):
    """The mean cross entropy of the samples of a loss, over so many `classes`, the standard
    deviation of the logits of a sample, and the node that has made the logits.
    """

    loss: float
    classes: int
    spread: float
    logits: Any


class LinearNode(NamedTuple):
    """A layer's weight, and the data that goes into it, where it is at hand."""

    weight: torch.Tensor
    given: torch.Tensor | None
    is_first: bool  # nothing in front of it has a graph


@dataclass(slots=True)
class FirstLosses:
    """Looks at the first losses of each line of the script, as long as no weights are loaded: what
    was trained before may have an opinion.
    """

    facts: Facts
    parameter_table: ParameterTable
    sites: Sequence[Site]
    is_loaded: bool = False
    _num: dict[int, int] = field(default_factory=dict[int, int])  # looks, by line

    def state_loads(self, _: ThreadState, owner: Any, __: object) -> None:
        """A module or an optimizer is about to be given a saved state."""
        self.is_loaded = self.is_loaded or isinstance(owner, torch.nn.Module)

    def look(self, site: int, graph: LossGraph) -> None:
        """Inspect the graph of a loss whose backward begins at this call site."""
        number = self._num.get(site, 0) + 1
        if self.is_loaded or number > LOOKS or (number == 1 and len(self._num) >= MAX_LINES):
            return
        self._num[site] = number
        with without_user_modes(), torch.no_grad():
            guess = max(guesses(graph.tops), key=lambda each: each.loss, default=None)
            head = None if guess is None else last_layer(guess.logits)
            if guess is None or head is None or head.weight not in self.parameter_table:
                return
            self._report(site, graph, guess, head)

    def _report(self, site: int, graph: LossGraph, guess: Guess, head: LinearNode) -> None:
        table = self.parameter_table
        first = next((each for each in layers(graph) if each.is_first), None)
        self.facts.report(
            FactKind.FIRST_LOSS,
            site=site,
            parameters=[table.parameters[table.column(head.weight)].name],
            loss=guess.loss,
            classes=guess.classes,
            spread=guess.spread,
            fan_in=head.weight[0].numel(),
            head=_rms(head.weight),
            features=_rms(head.given),
            inputs=_rms(None if first is None else first.given),
            layers=sum(1 for _ in layers(graph)),
            tied=float(any(each is head.weight for each in embeddings(graph))),
        )


def guesses(tops: list[Any]) -> Iterator[Guess]:
    """Yield the cross entropies that these losses are made of, in each of which the logarithms of
    the probabilities are at hand.
    """
    stack = [top for top in tops if top is not None]
    seen: set[Any] = set(stack)
    while stack and len(seen) < MAX_OPERATIONS:
        node = stack.pop()
        name: str = node.name()
        found = _of_classes(node) if name in NLL else None
        if name == "MulBackward0":
            found = _of_probabilities(node)
        if found is not None:
            yield found
        if name in JOINING:
            for below, _ in node.next_functions:
                if below is not None and below not in seen:
                    seen.add(below)
                    stack.append(below)


def _of_classes(node: Any) -> Guess | None:
    """Return what a loss of classes shows, each of which is the number of one."""
    logs, target = saved(node, "self"), saved(node, "target")
    if logs is None or target is None or logs.dim() != target.dim() + 1:
        return None
    if logs.dim() == 1:
        logs, target = logs[None], target[None]
    logs, target = _few(logs, logs.shape), _few(target, logs.shape)
    kept = (target != signed(node._saved_ignore_index)) & (target >= 0)
    if not bool(kept.any()):
        return None
    chosen = logs.gather(1, target.clamp(min=0).unsqueeze(1)).squeeze(1)
    return _guess(logs, -float(chosen[kept].float().mean()), made_by(node))


def _of_probabilities(node: Any) -> Guess | None:
    """Return what a loss of soft targets shows, whose rows add up to one."""
    for position, operand in ((0, "other"), (1, "self")):
        below, target = made_by(node, position), saved(node, operand)
        if below is None or below.name() != "LogSoftmaxBackward0" or target is None:
            continue
        logs = saved(below, "result")
        if source(node, 1 - position) is not None or logs is None or target.shape != logs.shape:
            return None
        logs, target = _few(logs, logs.shape).float(), _few(target, logs.shape).float()
        if logs.dim() < 2 or bool((target < 0).any()):
            return None
        sums = target.sum(1)
        if float((sums - 1).abs().max()) > TOLERANCE:
            return None
        return _guess(logs, -float((target * logs).sum(1).mean()), below)
    return None


def _few(tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Return so many samples of what has this shape beside it that they are read at once."""
    return tensor[: max(1, MAX_NUMBERS // max(1, math.prod(shape[1:])))]


def _guess(logs: torch.Tensor, loss: float, made: Any) -> Guess | None:
    classes = int(logs.shape[1])
    if made is None or made.name() != "LogSoftmaxBackward0" or classes < 2:
        return None
    if float(logs[:64].float().logsumexp(1).abs().max()) > OFF or not math.isfinite(loss):
        return None
    return Guess(loss, classes, float(logs.float().std(1).mean()), source(made))


def last_layer(node: Any) -> LinearNode | None:
    """Return the layer with a weight that logits come from; `None` where what lies between bounds
    or masks them, such as cosines, which have a scale of their own.
    """
    stack, seen = [node], {node}
    while stack and len(seen) < MAX_HOPS:
        node = stack.pop()
        found = None if node is None else _layer(node)
        if found is not None:
            return found
        if node is None:
            return None
        live = [below for below, _ in reversed(node.next_functions) if below is not None]
        name: str = node.name()
        if name not in ADDING and not (name in MULTIPLYING and len(live) == 1):
            return None
        for below in live:
            if not is_leaf(below) and below not in seen:
                seen.add(below)
                stack.append(below)
    return None


def layers(graph: LossGraph) -> Iterator[LinearNode]:
    """Yield the layers of a graph that multiply by a parameter, in the order of their use."""
    for node in graph.nodes:
        found = _layer(node)
        if found is not None:
            yield found


def _layer(node: Any) -> LinearNode | None:
    if node.name() not in LAYERS:
        return None
    position, data, name = LAYERS[node.name()]
    weight = below_views(source(node, position))
    if weight is None or not is_leaf(weight) or weight.variable.dim() < 2:
        return None
    return LinearNode(weight.variable, saved(node, name), source(node, data) is None)


def embeddings(graph: LossGraph) -> Iterator[torch.Tensor]:
    """Yield the weights of which a graph looks rows up."""
    for node in graph.nodes:
        if node.name() == "EmbeddingBackward0":
            weight = below_views(source(node))
            if weight is not None and is_leaf(weight):
                yield weight.variable


def _rms(tensor: torch.Tensor | None) -> float:
    """Return the root of the mean square, NaN where it is not known."""
    if tensor is None or not tensor.numel() or tensor.layout is not torch.strided:
        return math.nan
    if not tensor.is_floating_point():
        return math.nan
    few = _few(tensor, tensor.shape)
    return float(few.float().square().mean().sqrt())
