"""Find samples without a gradient that a loss goes through: `sample()` in place of `rsample()`.

What is drawn has no graph, so the parameters of the distribution get no gradient of what is
computed from it. That is right where a policy gradient takes its place, or a likelihood.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import get_ident
from typing import Any, cast

import torch

from seismograd.capture.graph.gradient_stops import PRODUCTS
from seismograd.capture.graph.loss_graph import LossGraph, below_views
from seismograd.capture.graph.traversal import LEAF, saved, source
from seismograd.capture.loop.event_log import OWN_FRAMES, EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.schema import FactKind
from seismograd.tensors.freed_memory import is_readable

MAX_DRAWS = 8  # the last ones that are kept
MAX_SCALARS = 1 << 20  # of a sample that is kept
MAX_LOOKS = 12  # at losses with samples at hand; then no sample is kept any more
MAX_DEPTH = 4  # distributions within distributions
MIN_ROWS = 16  # that are in the same order: by chance once in 16!
MAX_ROWS = 256  # compared
MAX_COLUMNS = 4096
MAX_SAMPLED = 4  # components of a sample that are looked for

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
class Draw:
    """A sample, and the numbers of the operations that made the parameters of its distribution."""

    value: torch.Tensor
    numbers: frozenset[int]
    thread: int
    site: int
    distribution: str  # its class
    has_location: bool  # a Normal's or a Laplace's mean and scale, both with a graph


@dataclass(frozen=True, slots=True)
class Discarded:
    """A draw whose gradient went nowhere unless one of `windows` steps on it; they had made
    `num_steps`. `own` held what the loss was for, and had made `num_own`.
    """

    draw: Draw
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

    Two things are told. A sample goes into a network, the loss of which reaches the mean and scale
    that it was drawn with by no other way, and these are only regularised: no likelihood and no
    regression compares them with data. Or what it goes into reaches none of the parameters for
    which the loss is, and the gradient of those that it reaches is cleared before any step.
    """

    facts: Facts
    log: EventLog
    parameter_table: ParameterTable
    waiting: list[Discarded] = field(default_factory=list[Discarded])
    is_listening: bool = True
    _draws: list[Draw] = field(default_factory=list[Draw])
    _looks: int = 0
    _reported: set[int] = field(default_factory=set[int])

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
        made = [p.grad_fn for p in _parameters(distribution) if p.requires_grad]
        numbers = frozenset(number for node in made for number in _numbers(node))
        if numbers:
            site = self.log.call_sites.here(OWN_FRAMES)
            kind = type(distribution).__name__
            has_location = _has_location(distribution)
            draw = Draw(value.detach(), numbers, get_ident(), site, kind, has_location)
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
                if draw.site not in self._reported:
                    self._judge(graph, draw, windows)
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

    def _judge(self, graph: LossGraph, draw: Draw, windows: Sequence[OptimizerWindow]) -> None:
        made = {node for node in graph.nodes if node._sequence_nr() in draw.numbers}
        used_at = set(_uses(graph, draw)) if made else set[Any]()
        if not used_at:
            return
        behind = {id(leaf) for leaf in graph.leaves_behind(made)}
        terms = graph.terms() & graph.reaching(used_at)
        if not terms.isdisjoint(graph.reaching(made)):
            return
        reached = {id(leaf) for leaf in graph.leaves_behind(terms)}
        cut_off = behind - reached
        trained = [
            window
            for window in windows
            if any(id(p) in cut_off and p.requires_grad for p in window.held())
        ]
        if not trained:
            return
        own = trained[0]
        held = [p for p in own.held() if id(p) in cut_off]
        columns = [column for column in self.parameter_table.columns(held) if column >= 0]
        names = tuple(self.parameter_table.parameters[column].name for column in sorted(columns))
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

    def _report(
        self, draw: Draw, optimizer: int, names: tuple[str, ...], *, discarded: bool
    ) -> None:
        if draw.site in self._reported:
            return
        self._reported.add(draw.site)
        sites = self.log.call_sites.sites
        self.facts.report(
            FactKind.SAMPLE_CUT,
            site=draw.site,
            optimizer=optimizer,
            parameters=names,
            distribution=draw.distribution,
            discarded=float(discarded),
            text=sites[draw.site].text if draw.site >= 0 else "",
        )


def _parameters(distribution: Any, depth: int = 0) -> Iterator[torch.Tensor]:
    """Yield the tensors that a distribution was made with."""
    for value in cast(dict[str, object], vars(distribution)).values():
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, torch.distributions.Distribution) and depth < MAX_DEPTH:
            yield from _parameters(value, depth + 1)


def _has_location(distribution: Any) -> bool:
    """Return whether a distribution is made of a mean and a scale that both have a graph, in which
    its density is as torch computes it.
    """
    while isinstance(
        inner := getattr(distribution, "base_dist", None), torch.distributions.Distribution
    ):
        distribution = inner
    if type(distribution) not in (torch.distributions.Normal, torch.distributions.Laplace):
        return False
    return all(each.grad_fn is not None for each in (distribution.loc, distribution.scale))


def _numbers(node: Any) -> Iterator[int]:
    """Yield the number of an operation, and that of the one whose values it passes on."""
    for each in (node, below_views(node)):
        if each is not None and each._sequence_nr() != LEAF:
            yield each._sequence_nr()


def _uses(graph: LossGraph, draw: Draw) -> Iterator[Any]:
    """Yield the products that a sample goes into as data."""
    for node in graph.nodes:
        for position, kept in OPERANDS.get(node.name(), {}).items():
            value = saved(node, kept) if source(node, position) is None else None
            if value is not None and value.device == draw.value.device and _holds(value, draw):
                yield node
                break


def _holds(value: torch.Tensor, draw: Draw) -> bool:
    """Return whether an operand is a sample, or has a column that is in the order of the sample,
    as that of its tanh is: both hold many different numbers.
    """
    sample = draw.value
    if not is_readable(sample):
        return False
    if value.numel() == sample.numel() and value.data_ptr() == sample.data_ptr():
        return True
    if value.layout is not torch.strided or value.dim() != 2 or not value.is_floating_point():
        return False
    rows = sample.reshape(sample.shape[0], 1) if sample.dim() == 1 else sample.flatten(0, -2)
    if rows.dim() != 2 or rows.shape[0] != value.shape[0] or value.shape[1] > MAX_COLUMNS:
        return False
    return any(
        _is_in_order(value[:MAX_ROWS], component)
        for component in rows[:MAX_ROWS, :MAX_SAMPLED].unbind(1)
    )


def _is_in_order(columns: torch.Tensor, component: torch.Tensor) -> bool:
    """Return whether any of these columns rises, or falls, with the component of a sample."""
    ordered, order = component.sort()
    if int((ordered.diff() != 0).sum()) < MIN_ROWS - 1:
        return False
    steps = columns[order].diff(dim=0)
    differs = (steps != 0).sum(0) >= MIN_ROWS - 1
    return bool((differs & ((steps >= 0).all(0) | (steps <= 0).all(0))).any())


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
