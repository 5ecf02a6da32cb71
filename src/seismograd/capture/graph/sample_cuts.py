"""Find samples without a gradient that a loss goes through: `sample()` in place of `rsample()`.

What is drawn has no graph, so the parameters of the distribution get no gradient of what is
computed from it. That is right where a policy gradient takes its place, or a likelihood.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import get_ident
from typing import Any

import torch

from seismograd.capture.graph.drawn_samples import (
    DrawnSample,
    has_location,
    holds,
    mean_of,
    numbers_of,
    parameters_of,
)
from seismograd.capture.graph.gradient_stops import PRODUCTS
from seismograd.capture.graph.lone_scores import LoneScores
from seismograd.capture.graph.loss_graph import LossGraph, leaves_behind
from seismograd.capture.graph.traversal import saved, source
from seismograd.capture.loop.event_log import OWN_FRAMES, EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.schema import FactKind
from seismograd.tensors.freed_memory import is_readable

MAX_DRAWS = 8  # the last ones that are kept
MAX_SCALARS = 1 << 20  # of a sample that is kept
MAX_LOOKS = 24  # at losses with samples at hand; then no sample is kept any more

# of what a divergence from a fixed distribution is made
OF_ONE = frozenset(
    {
        "ClampBackward0",
        "ClampBackward1",
        "ClampMinBackward0",
        "ExpBackward0",
        "LogBackward0",
        "NegBackward0",
        "PowBackward0",
        "ReciprocalBackward0",
        "SigmoidBackward0",
        "SoftplusBackward0",
    }
)
OF_CONSTANTS = frozenset({"AddBackward0", "DivBackward0", "MulBackward0"})  # with one
# where an operation that computes with data keeps it
OPERANDS = {name: kept for name, kept in PRODUCTS.items() if name != "MulBackward0"}


@dataclass(frozen=True, slots=True)
class Discarded:
    """A draw whose gradient went nowhere unless one of `windows` steps on it; they had made
    `num_steps`. `own` held what the loss was for, and had made `num_own`.
    """

    draw: DrawnSample
    parameters: tuple[str, ...]
    thread: int
    windows: tuple[OptimizerWindow, ...]
    num_steps: tuple[int, ...]
    own: OptimizerWindow
    num_own: int


@dataclass(slots=True)
class SampleCuts:
    """Keeps the last samples of distributions whose parameters have a graph, and looks for them in
    the losses that it is given.

    Three things are told. A sample goes into a network, the loss of which reaches the mean and
    scale that it was drawn with by no other way, and these are only regularised: no likelihood and
    no regression compares them with data. Or what it goes into reaches none of the parameters for
    which the loss is, and the gradient of those that it reaches is cleared before any step. Or all
    that the distribution gets is the gradient of the log-probability of its own samples, which
    nothing weighs by what they are worth.
    """

    facts: Facts
    log: EventLog
    parameter_table: ParameterTable
    waiting: list[Discarded] = field(default_factory=list[Discarded])
    is_listening: bool = True
    _draws: list[DrawnSample] = field(default_factory=list[DrawnSample])
    _looks: int = 0
    _reported: set[int] = field(default_factory=set[int])
    _scores: LoneScores = field(default_factory=LoneScores)

    def drawn(self, _: ThreadState, distribution: Any, value: object) -> None:
        """Keep a sample."""
        if (
            not isinstance(value, torch.Tensor)
            or value.numel() > MAX_SCALARS
            or not value.is_floating_point()
            or not is_readable(value)  # inside functorch there are no numbers
            or not distribution.has_rsample
        ):
            return
        made = [p.grad_fn for p in parameters_of(distribution) if p.requires_grad]
        numbers = frozenset(number for node in made for number in numbers_of(node))
        if numbers:
            site = self.log.call_sites.here(OWN_FRAMES)
            kind = type(distribution).__name__
            draw = DrawnSample(
                value.detach(),
                numbers,
                get_ident(),
                site,
                kind,
                has_location(distribution),
                mean_of(distribution),
            )
            self._draws = [*self._draws[1 - MAX_DRAWS :], draw]

    @property
    def may_look(self) -> bool:
        """Return whether there is anything to look for."""
        return bool(self._draws)

    def look(self, graph: LossGraph, windows: Sequence[OptimizerWindow]) -> None:
        """Inspect the graph of losses whose backward begins."""
        here = get_ident()
        draws = [draw for draw in self._draws if draw.thread == here]
        if not draws:
            return
        self._looks += 1
        with torch.no_grad():
            for draw in draws:
                made = {node for node in graph.nodes if node._sequence_nr() in draw.numbers}
                if made and draw.site not in self._reported:
                    self._judge(graph, draw, made, windows)
                    self._judge_score(graph, draw, made, windows)
        if self._looks >= MAX_LOOKS:
            self.is_listening, self._draws = False, []

    def check_waiting(self) -> None:
        """At the next backward: report draws whose gradient was cleared before any step."""
        here = get_ident()
        for each in [each for each in self.waiting if each.thread == here]:
            steps = tuple(window.num_steps for window in each.windows)
            if steps != each.num_steps:
                self.waiting.remove(each)
            elif all(_has_none(window) for window in each.windows):
                self.waiting.remove(each)
                if each.own.num_steps > each.num_own:
                    self._report(each.draw, each.own.index, each.parameters, discarded=True)

    def _judge(
        self,
        graph: LossGraph,
        draw: DrawnSample,
        made: set[Any],
        windows: Sequence[OptimizerWindow],
    ) -> None:
        used_at = set(_uses(graph, draw))
        if not used_at:
            return
        behind = {id(leaf) for leaf in leaves_behind(made)}
        terms = graph.terms() & graph.reaching(used_at)
        if not terms.isdisjoint(graph.reaching(made)):
            return
        reached = {id(leaf) for leaf in leaves_behind(terms)}
        cut_off = behind - reached
        trained = [
            window
            for window in windows
            if any(id(p) in cut_off and p.requires_grad for p in window.held())
        ]
        if not trained:
            return
        own = trained[0]
        names = self._names(own, cut_off)
        if draw.has_location and all(_is_only_regularised(graph, node) for node in made):
            self._report(draw, own.index, names, discarded=False)
        elif not any(id(p) in reached for window in trained for p in window.held()):
            others = tuple(w for w in windows if any(id(p) in reached for p in w.held()))
            if others and own.num_steps:
                steps = tuple(window.num_steps for window in others)
                self.waiting = [
                    *self.waiting[-MAX_DRAWS:],
                    Discarded(draw, names, get_ident(), others, steps, own, own.num_steps),
                ]

    def _judge_score(
        self,
        graph: LossGraph,
        draw: DrawnSample,
        made: set[Any],
        windows: Sequence[OptimizerWindow],
    ) -> None:
        """Look for a log-probability of a sample that nothing weighs, in a loss that is for what
        the distribution was computed by alone.
        """
        if draw.site in self._reported:
            return
        behind = {id(leaf) for leaf in leaves_behind(made)}
        reached = {id(leaf) for leaf in leaves_behind(set(graph.tops)) if leaf.numel() > 1}
        concerned = [window for window in windows if any(id(p) in reached for p in window.held())]
        if len(concerned) != 1:
            return
        (own,) = concerned
        names = self._names(own, behind)
        if names and (times := self._scores.times(graph, draw, made, own)):
            self._tell(draw, own.index, names, discarded=0.0, score=1.0, times=times)

    def _names(self, window: OptimizerWindow, ids: set[int]) -> tuple[str, ...]:
        """Return the names of the parameters that an optimizer holds, of those with these ids."""
        held = [p for p in window.held() if id(p) in ids and p.requires_grad]
        columns = [column for column in self.parameter_table.columns(held) if column >= 0]
        return tuple(self.parameter_table.parameters[column].name for column in sorted(columns))

    def _report(
        self, draw: DrawnSample, optimizer: int, names: tuple[str, ...], *, discarded: bool
    ) -> None:
        if draw.site not in self._reported:
            self._reported.add(draw.site)
            self._tell(draw, optimizer, names, discarded=float(discarded))

    def _tell(
        self, draw: DrawnSample, optimizer: int, names: tuple[str, ...], **values: float
    ) -> None:
        sites = self.log.call_sites.sites
        self.facts.report(
            FactKind.SAMPLE_CUT,
            site=draw.site,
            optimizer=optimizer,
            parameters=names,
            distribution=draw.distribution,
            text=sites[draw.site].text if draw.site >= 0 else "",
            **values,
        )


def _uses(graph: LossGraph, draw: DrawnSample) -> Iterator[Any]:
    """Yield the products that a sample goes into as data."""
    for node in graph.nodes:
        for position, kept in OPERANDS.get(node.name(), {}).items():
            value = saved(node, kept) if source(node, position) is None else None
            if value is not None and value.device == draw.value.device and holds(value, draw.value):
                yield node
                break


def _is_only_regularised(graph: LossGraph, node: Any) -> bool:
    """Return whether what a node gave goes only into what a divergence from a fixed distribution,
    or an entropy, is made of: no likelihood, no regression, no sample with a gradient, no network.
    """
    for reader, passed in graph.readers_of_values(node):
        name: str = reader.name()
        live = [below for below, _ in reader.next_functions if below is not None]
        if name in OF_ONE or (name in OF_CONSTANTS and len(live) == 1 and live[0] is passed):
            continue
        if name == "MulBackward0" and live == [passed, passed]:  # a square
            continue
        if name == "SubBackward0" and live == [passed] and source(reader) is passed:
            # (mean - mean of the prior) / scale of the prior
            after = [each for each, _ in graph.readers_of_values(reader)]
            if all(_is_scaled(each) for each in after):
                continue
        return False
    return True


def _is_scaled(node: Any) -> bool:
    return node.name() == "DivBackward0" and source(node, 1) is None


def _has_none(window: OptimizerWindow) -> bool:
    """Return whether the gradients of an optimizer were cleared."""
    gradients = [p.grad for p in window.held() if p.requires_grad]
    return all(gradient is None or not bool(gradient.any()) for gradient in gradients)
