"""SG104 dead-units."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import numpy as np

from seismograd.i18n import Message, say
from seismograd.rules.profile import bias_name
from seismograd.rules.roster import Roster, is_weight
from seismograd.rules.rows import BoolArray, as_list, integers, numbers, site_of
from seismograd.rules.rule import Rule
from seismograd.schema import Block, EventKind, Evidence, Finding, FloatArray, IntArray, Parameter, State, StepFlag

NEVER_ZERO = ("", "leaky_relu", "softmax", "log_softmax", "log_sigmoid")  # activations behind which no unit is dead


@final
@dataclass
class DeadUnits(Rule):
    """Most units of a layer never get a gradient: they are dead and stay so.

    What it finds
        Layers in front of a ReLU whose units give zero for every input, or in front of a sigmoid or tanh whose units are saturated so far
        that their derivative is exactly zero.

    Why it hurts
        Where ReLU gives zero its derivative is zero as well, so the unit gets no gradient, and nothing can bring it back. The layer passes
        less and less on, in both directions. When all units of a layer are dead, every layer before it stands still.

    How it decides
        At each tenth step it counts the rows of a weight whose gradient was exactly zero in every step since the last count. When they
        are at least {min_share:.0%} of the rows of a layer (of at least {min_rows:g}) in {num_samples:g} counts in a row, over at least
        {min_seen:g} samples each, the layer is dead. The loss must still be above {min_loss:.0%} of the first: a network that has learned
        its data by heart gets zeros, too.
        Where the loss is still at least {stuck_loss:.0%} of the first, a share of {min_stuck_share:.0%} is enough, when it is reached in
        the mean over all layers in front of such an activation.
        A layer without any gradient counts only when its bias and the layers before it get none either, and one after it does: an expert
        that no input was sent to is idle, not dead.

    False alarms
        A narrow layer with very small batches. Up to half of the units of a ReLU layer are often dead in networks that work, and are not
        reported, nor are inputs that are always zero, embeddings, and outputs that were not asked for.

    What to try
        - Lower the learning rate, or let it grow over the first steps: dead units are mostly killed by one large update.
        - Look at the biases: a large negative one silences its unit. Begin with zero.
        - Initialise for ReLU (`nn.init.kaiming_normal_`), normalise the inputs, or put a normalisation before the activation.
        - Take LeakyReLU, GELU or SiLU, which let a gradient through where ReLU does not.

    References
        - Lu, Shin, Su, Karniadakis (2020), Dying ReLU and initialization: theory and numerical examples.
        - Stanford CS231n, Neural networks 1: the fragile ReLU.
    """

    code: ClassVar[str] = "SG104"
    name: ClassVar[str] = "dead-units"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ("dead_rows",)
    absorbs: ClassVar[tuple[str, ...]] = ("SG101", "SG402")

    min_share: float = 0.93  # of the rows of a layer
    stuck_loss: float = 0.9  # of the first
    min_stuck_share: float = 0.75
    num_samples: int = 2  # counts in a row
    min_seen: int = 60  # samples
    min_loss: float = 0.2  # of the first
    min_rows: int = 4
    min_evaluated: int = 2  # counts

    _parameters: tuple[Parameter, ...] | None = field(default=None, init=False, repr=False)
    _columns: IntArray = field(default_factory=lambda: np.zeros(0, np.int64), init=False, repr=False)
    _num_rows: IntArray = field(default_factory=lambda: np.zeros(0, np.int64), init=False, repr=False)
    _places: IntArray = field(default_factory=lambda: np.zeros(0, np.int64), init=False, repr=False)
    _roster: Roster = field(default_factory=Roster, init=False, repr=False)
    _layers: dict[int, _Layer] = field(default_factory=dict[int, "_Layer"], init=False, repr=False)
    _findings: dict[int, Finding] = field(default_factory=dict[int, Finding], init=False, repr=False)
    _first_loss: dict[int, float] = field(default_factory=dict[int, float], init=False, repr=False)
    _num_seen: float = field(default=0, init=False, repr=False)  # samples since the last count
    _num_samples: int = field(default=0, init=False, repr=False)
    _since: int = field(default=-1, init=False, repr=False)  # iteration after the last count

    def observe(self, block: Block) -> Iterator[Finding]:
        if block.parameters is not self._parameters:
            self._parameters = block.parameters
            found = [column for column, each in enumerate(block.parameters) if self._can_die(each)]
            self._columns, self._places = np.array(found, np.int64), self._roster.places([block.parameters[each] for each in found])
            self._num_rows = np.array([block.parameters[each].shape[0] for each in found], np.int64)
        loss = np.where(integers(block.steps, "flags") & int(StepFlag.NO_LOSS), np.nan, numbers(block.steps, "loss"))
        for optimizer in {int(each) for each in np.unique(block.steps["optimizer"])} - self._first_loss.keys():
            own = loss[block.steps["optimizer"] == optimizer]
            if np.isfinite(own).any():
                self._first_loss[optimizer] = float(own[np.isfinite(own)][0])
        backwards = block.events[block.events["kind"] == EventKind.BACKWARD]
        at, count = integers(backwards, "iteration"), np.nan_to_num(numbers(backwards, "count"), nan=1e9)
        begin = 0
        for sample, row in enumerate(as_list(block.sample_rows)):
            iteration = int(block.steps["iteration"][row])
            end = int(np.searchsorted(at, iteration, side="right"))
            seen, begin, self._num_seen = self._num_seen + float(count[begin:end].sum()), end, 0
            self._num_samples += 1
            if len(self._columns):
                dead = np.nan_to_num(np.asarray(block.samples["dead_rows"][sample], np.float64)).astype(np.int64)
                yield from self._count(block, row, dead, seen, float(loss[row]))
            self._since = iteration + 1
        self._num_seen += float(count[begin:].sum())

    def shortfall(self) -> Message | None:
        if self._num_samples < self.min_evaluated:
            return say("needs {needed} counts of dead rows, has {has}", needed=self.min_evaluated, has=self._num_samples)
        return None

    def _can_die(self, parameter: Parameter) -> bool:
        if parameter.activation in NEVER_ZERO or "Embedding" in parameter.module or "Transpose" in parameter.module:
            return False
        return is_weight(parameter) and parameter.trainable and parameter.shape[0] >= self.min_rows

    def _count(self, block: Block, row: int, dead: IntArray, seen: float, loss: float) -> Iterator[Finding]:
        """Take in the dead rows of one sampled iteration."""
        iteration, optimizer = int(block.steps["iteration"][row]), int(block.steps["optimizer"][row])
        first_loss = self._first_loss.get(optimizer, math.nan)
        learned = loss < self.min_loss * first_loss
        measured = np.isin(block.state[row, self._columns], (State.ZERO, State.FINITE))
        share = (dead[self._columns] / self._num_rows)[measured]
        stuck = loss >= self.stuck_loss * first_loss and len(share) > 0 and float(share.mean()) >= self.min_stuck_share
        min_share = self.min_stuck_share if stuck else self.min_share
        grown: set[int] = set()
        for column, place in zip(as_list(self._columns), as_list(self._places), strict=True):
            if block.state[row, column] not in (State.ZERO, State.FINITE):
                continue
            layer, parameter = self._layers.setdefault(place, _Layer()), block.parameters[column]
            num_rows, num_dead = parameter.shape[0], int(dead[column])
            is_dead = num_dead >= min_share * num_rows and seen >= self.min_seen and not learned
            if is_dead and num_dead == num_rows:
                is_dead = _is_cut_off(block, row, column)
            if not is_dead:
                layer.num, layer.first = 0, -1
                continue
            layer.num += 1
            layer.first = max(self._since, 0) if layer.num == 1 else layer.first
            layer.dead, layer.last, layer.limit = num_dead, iteration, min_share * num_rows
            if layer.num >= self.num_samples:
                grown.add(-1 if parameter.optimizer is None else parameter.optimizer)
        for owner in sorted(grown):
            yield self._report(block, owner, iteration)

    def _report(self, block: Block, owner: int, iteration: int) -> Finding:
        known = self._findings.get(owner)
        now = self._dead_now(owner)
        if known is None:
            self._findings[owner] = self._finding(block, owner, iteration, now)
        else:
            names = (self._roster.parameters[place].name for place, _ in now)
            parameters = tuple(dict.fromkeys((*known.parameters, *names)))
            self._findings[owner] = replace(known, parameters=parameters, last_step=max(known.last_step, iteration))
        return self._findings[owner]

    def _dead_now(self, owner: int) -> list[tuple[int, _Layer]]:
        """The layers of an optimizer that are dead, without those that are so because one after them is dead as a whole."""
        parameters = self._roster.parameters
        now = [
            (place, layer)
            for place, layer in self._layers.items()
            if layer.num >= self.num_samples and parameters[place].optimizer == (None if owner == -1 else owner)
        ]
        whole = [_depth(parameters[place]) for place, layer in now if layer.dead == parameters[place].shape[0]]
        deepest = max(whole, default=-1)
        now = [each for each in now if _depth(parameters[each[0]]) >= deepest or each[1].dead < parameters[each[0]].shape[0]]
        return sorted(now, key=lambda each: (_depth(parameters[each[0]]), each[0]))

    def _finding(self, block: Block, owner: int, iteration: int, now: list[tuple[int, _Layer]]) -> Finding:
        place, layer = max(now, key=lambda each: (each[1].dead / self._roster.parameters[each[0]].shape[0], -each[0]))
        parameter = self._roster.parameters[place]
        first = min(each.first for _, each in now)
        return Finding(
            code=self.code,
            name=self.name,
            severity=self.severity,
            optimizer=owner,
            first_step=first,
            last_step=iteration,
            parameters=tuple(self._roster.parameters[place].name for place, _ in now),
            evidence=tuple(
                Evidence("dead_rows", self._roster.parameters[each].name, found.last, found.dead, found.limit) for each, found in now
            ),
            cause=say(
                "{dead} of the {rows} units of {parameter} are dead: since step {first} no input gives them a gradient, because "
                "{activation} is flat wherever they are",
                dead=layer.dead,
                rows=parameter.shape[0],
                parameter=parameter.name,
                first=first,
                activation=parameter.activation,
            ),
            advice=say(
                "dead units do not come back: begin again with a lower learning rate or a warm-up, look for a large negative bias or "
                "inputs that are not normalised, or take an activation that is never flat, such as LeakyReLU or GELU"
            ),
            where=site_of(block, EventKind.STEP, iteration),
            excerpt="nn.LeakyReLU(0.01)  # in place of nn.ReLU()" if parameter.activation == "relu" else "",
        )


@dataclass(slots=True)
class _Layer:
    """What is remembered of one weight."""

    num: int = 0  # counts in a row in which it was dead
    first: int = -1  # the iteration in which that began
    last: int = -1
    dead: int = 0  # rows
    limit: float = 0.0


def _depth(parameter: Parameter) -> int:
    return -1 if parameter.depth is None else parameter.depth


def _is_cut_off(block: Block, row: int, column: int) -> bool:
    """Whether a layer without any gradient, and all before it, are cut off from a loss that does reach the layers after them."""
    here = block.parameters[column]
    bias = bias_name(here.name)
    if any(each.name == bias and block.state[row, place] == State.FINITE for place, each in enumerate(block.parameters)):
        return False  # its units get a gradient: it is their input that is zero
    others = [place for place, each in enumerate(block.parameters) if each.optimizer == here.optimizer and each.trainable]
    depth: FloatArray = np.array([_depth(block.parameters[place]) for place in others], np.float64)
    weight: BoolArray = np.array([is_weight(block.parameters[place]) for place in others], np.bool_)
    alive: BoolArray = block.state[row, others] == State.FINITE
    return not (alive & weight & (depth < _depth(here))).any() and bool((alive & (depth > _depth(here))).any())
