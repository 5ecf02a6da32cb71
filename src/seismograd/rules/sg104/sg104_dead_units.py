"""SG104 dead-units."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np

from seismograd.analysis.block_rows import (
    BoolArray,
    as_list,
    integers,
    numbers,
    site_of,
    statistic,
    weight_norms,
)
from seismograd.analysis.parameter_index import ParameterIndex, is_weight
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.rules.sg104.dying_layers import (
    DyingLayer,
    DyingLayers,
    LayerConnections,
    depth_number,
)
from seismograd.schema import (
    EventKind,
    Evidence,
    Finding,
    IntArray,
    Parameter,
    RowBatch,
    State,
    StepFlag,
)

# activations behind which no unit is dead
NEVER_ZERO = ("", "leaky_relu", "softmax", "log_softmax", "log_sigmoid")


@final
@dataclass
class DeadUnits(Rule):
    """Most units of a layer never get a gradient: they are dead and do not recover.

    What it finds
        Layers followed by a ReLU, with units whose output is zero for every input; or by a sigmoid
        or tanh, with units so saturated that the derivative is exactly zero.

    Why it hurts
        Where the output of ReLU is zero, its derivative is zero as well, so the unit gets no
        gradient, and nothing can revive it. The layer lets less and less through, both forward and
        backward. Once all units of a layer are dead, no layer before it trains any more.

    How it decides
        At every tenth step the rule counts the rows of each weight whose gradient was exactly zero
        in every step since the last count. A layer is dead if this applies to at least
        {min_share:.0%} of its rows (it must have at least {min_rows:g}) in {num_samples:g} counts
        in a row, each over at least {min_seen:g} samples. The loss must still be above
        {min_loss:.0%} of its first value, because a network that has memorised its data gets zeros,
        too. If the loss is still at least {stuck_loss:.0%} of its first value, a share of
        {min_stuck_share:.0%} is enough, as the mean over all layers followed by such an activation.
        A layer without any gradient counts only if its bias and the layers before it get none
        either, while a layer after it does: an expert that received no input is idle, not dead.
        Nor does a layer count that only {min_signal:g} of the last layer's gradient, as the root
        mean square of a scalar, would reach: there the gradient vanished on its way, in half
        precision soon down to exact zeros.

    False alarms
        A narrow layer with very small batches. In networks that work, up to half of the units of a
        ReLU layer are often dead; they are not reported, nor are inputs that are always zero,
        embeddings, or outputs that are not used.

    What to try
        - Lower the learning rate, or increase it gradually over the first steps: units usually die
          in one large update.
        - Check the biases: a large negative bias silences its unit. Initialise biases to zero.
        - Initialise for ReLU (`nn.init.kaiming_normal_`), normalise the inputs, or add a
          normalisation layer before the activation.
        - Use LeakyReLU, GELU or SiLU, which let a gradient through where ReLU does not.

    References
        - Lu, Shin, Su, Karniadakis (2020), Dying ReLU and initialization: theory and numerical
          examples.
        - Stanford CS231n, Neural networks 1: the fragile ReLU.
    """

    code = "SG104"
    name = "dead-units"
    severity = "warning"
    needs = ("grad_norm", "dead_rows")
    absorbs = ("SG101", "SG402")

    min_share: float = 0.93  # of the rows of a layer
    stuck_loss: float = 0.9  # of the first
    min_stuck_share: float = 0.75
    num_samples: int = 2  # counts in a row
    min_seen: int = 60  # samples
    min_loss: float = 0.2  # of the first
    min_rows: int = 4
    min_evaluated: int = 2  # counts
    min_signal: float = 1e-4  # of the last layer's gradient, per scalar

    _parameters: tuple[Parameter, ...] | None = field(default=None, init=False, repr=False)
    # that can die
    _columns: IntArray = field(
        default_factory=lambda: np.zeros(0, np.int64), init=False, repr=False
    )
    _num_rows: IntArray = field(
        default_factory=lambda: np.zeros(0, np.int64), init=False, repr=False
    )
    _positions: IntArray = field(
        default_factory=lambda: np.zeros(0, np.int64), init=False, repr=False
    )
    _network: LayerConnections = field(
        default_factory=lambda: LayerConnections(()), init=False, repr=False
    )
    _parameter_index: ParameterIndex = field(default_factory=ParameterIndex, init=False, repr=False)
    _layers: DyingLayers = field(default_factory=DyingLayers, init=False, repr=False)
    _first_loss: dict[int, float] = field(default_factory=dict[int, float], init=False, repr=False)
    _num_seen: float = field(default=0, init=False, repr=False)  # samples since the last count
    _num_samples: int = field(default=0, init=False, repr=False)
    _since: int = field(default=-1, init=False, repr=False)  # iteration after the last count

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        if block.parameters is not self._parameters:
            self._take_in(block.parameters)
        loss = np.where(
            integers(block.steps, "flags") & int(StepFlag.NO_LOSS),
            np.nan,
            numbers(block.steps, "loss"),
        )
        for optimizer in set(block.optimizers_of_rows) - self._first_loss.keys():
            own = loss[block.steps["optimizer"] == optimizer]
            if np.isfinite(own).any():
                self._first_loss[optimizer] = float(own[np.isfinite(own)][0])
        backwards = block.events[block.events["kind"] == EventKind.BACKWARD]
        count = np.nan_to_num(numbers(backwards, "count"), nan=1e9)
        if not len(block.sample_rows):
            self._num_seen += float(count.sum())
            return ()
        self._num_samples += len(block.sample_rows)
        iterations = integers(block.steps, "iteration")[block.sample_rows]
        ends = as_list(np.searchsorted(integers(backwards, "iteration"), iterations, side="right"))
        state = block.state[block.sample_rows][:, self._columns]
        measured = (state == State.ZERO) | (state == State.FINITE)
        dead = np.nan_to_num(
            np.asarray(block.samples["dead_rows"][:, self._columns], np.float64)
        ).astype(np.int64)
        if not (
            measured & (dead >= min(self.min_share, self.min_stuck_share) * self._num_rows)
        ).any():
            self._layers.revive(self._positions[measured.any(axis=0)])
        else:
            for sample, row in enumerate(as_list(block.sample_rows)):
                seen = float(count[ends[sample - 1] if sample else 0 : ends[sample]].sum())
                seen, self._num_seen = self._num_seen + seen, 0
                self._count(block, row, dead[sample], measured[sample], seen, float(loss[row]))
                self._since = int(iterations[sample]) + 1
        self._since = int(iterations[-1]) + 1
        self._num_seen = float(count[ends[-1] :].sum())
        return self.found.take()

    def shortfall(self) -> Message | None:
        if self._num_samples < self.min_evaluated:
            return say(
                "needs {needed} counts of dead rows, has {has}",
                needed=self.min_evaluated,
                has=self._num_samples,
            )
        return None

    def _can_die(self, parameter: Parameter) -> bool:
        if (
            parameter.activation in NEVER_ZERO
            or "Embedding" in parameter.module
            or "Transpose" in parameter.module
        ):
            return False
        return is_weight(parameter) and parameter.trainable and parameter.shape[0] >= self.min_rows

    def _take_in(self, parameters: tuple[Parameter, ...]) -> None:
        found = [column for column, each in enumerate(parameters) if self._can_die(each)]
        self._parameters, self._network, self._columns = (
            parameters,
            LayerConnections(parameters),
            np.array(found, np.int64),
        )
        self._num_rows = np.array([parameters[each].shape[0] for each in found], np.int64)
        self._positions = self._parameter_index.positions([parameters[each] for each in found])
        self._layers.grow(len(self._parameter_index.parameters))

    def _count(
        self,
        block: RowBatch,
        row: int,
        dead: IntArray,
        measured: BoolArray,
        seen: float,
        loss: float,
    ) -> None:
        """Read the dead rows of one sampled iteration, and where they were counted  # each
        (columns,).
        """
        iteration, optimizer = (
            int(block.steps["iteration"][row]),
            int(block.steps["optimizer"][row]),
        )
        first_loss = self._first_loss.get(optimizer, math.nan)
        learned = loss < self.min_loss * first_loss
        share = (dead / self._num_rows)[measured]
        stuck = (
            loss >= self.stuck_loss * first_loss
            and len(share) > 0
            and float(share.mean()) >= self.min_stuck_share
        )
        limit = np.multiply(
            self._num_rows, self.min_stuck_share if stuck else self.min_share, dtype=np.float64
        )
        is_dead = measured & (dead >= limit) & (seen >= self.min_seen and not learned)
        norms = weight_norms(block, row)
        if norms is not None:  # weights of zeros make zeros of any input, and are not dead by it
            is_dead &= norms[self._columns] != 0
        whole = np.flatnonzero(is_dead & (dead == self._num_rows))
        if len(whole):
            is_dead[whole] = self._network.is_cut_off(block.state[row], self._columns[whole])
        there = np.flatnonzero(is_dead)
        if len(there):
            is_dead[there] = self._network.is_reached(
                block.state[row],
                statistic(block, "grad_norm")[row],
                self._columns[there],
                1 - dead[there] / self._num_rows[there],
                self.min_signal,
            )
        self._layers.revive(self._positions[measured & ~is_dead])
        if not is_dead.any():
            return
        num = self._layers.kill(
            self._positions[is_dead], max(self._since, 0), iteration, dead[is_dead], limit[is_dead]
        )
        grown = self._columns[is_dead][num >= self.num_samples]
        for owner in sorted(
            {
                -1 if (each := block.parameters[column].optimizer) is None else each
                for column in as_list(grown)
            }
        ):
            self._report(block, owner, iteration)

    def _report(self, block: RowBatch, owner: int, iteration: int) -> None:
        known = self.found.get(owner)
        now = self._dead_now(owner)
        if known is None:
            self.found.add(self._finding(block, owner, iteration, now))
            return
        names = (self._parameter_index.parameters[position].name for position, _ in now)
        parameters = tuple(dict.fromkeys((*known.parameters, *names)))
        self.found.add(replace(known, parameters=parameters))
        self.found.extend(iteration, owner)

    def _dead_now(self, owner: int) -> list[tuple[int, DyingLayer]]:
        """Return the layers of an optimizer that are dead, without those that are so because a
        later one is dead as a whole.
        """
        parameters = self._parameter_index.parameters
        now = [
            (position, self._layers.at(position))
            for position in as_list(np.flatnonzero(self._layers.num >= self.num_samples))
            if parameters[position].optimizer == (None if owner == -1 else owner)
        ]
        whole = [
            depth_number(parameters[position])
            for position, layer in now
            if layer.dead == parameters[position].shape[0]
        ]
        deepest = max(whole, default=-1)
        now = [
            each
            for each in now
            if depth_number(parameters[each[0]]) >= deepest
            or each[1].dead < parameters[each[0]].shape[0]
        ]
        return sorted(now, key=lambda each: (depth_number(parameters[each[0]]), each[0]))

    def _finding(
        self, block: RowBatch, owner: int, iteration: int, now: list[tuple[int, DyingLayer]]
    ) -> Finding:
        position, layer = max(
            now,
            key=lambda each: (
                each[1].dead / self._parameter_index.parameters[each[0]].shape[0],
                -each[0],
            ),
        )
        parameter = self._parameter_index.parameters[position]
        first = min(each.first for _, each in now)
        return self.finding(
            optimizer=owner,
            first_step=first,
            last_step=iteration,
            parameters=tuple(
                self._parameter_index.parameters[position].name for position, _ in now
            ),
            evidence=tuple(
                Evidence(
                    "dead_rows",
                    self._parameter_index.parameters[each].name,
                    found.last,
                    found.dead,
                    found.limit,
                )
                for each, found in now
            ),
            cause=say(
                "{dead} of the {rows} units of {parameter} are dead: since step {first} no input "
                "has given them a gradient, because the derivative of {activation} is zero for all "
                "of their inputs",
                dead=layer.dead,
                rows=parameter.shape[0],
                parameter=parameter.name,
                first=first,
                activation=parameter.activation,
            ),
            advice=say(
                "dead units do not recover: start again with a lower learning rate or a warm-up, "
                "check for a large negative bias or inputs that are not normalised, or use an "
                "activation whose derivative is never zero, such as LeakyReLU or GELU"
            ),
            where=site_of(block, EventKind.STEP, iteration),
            excerpt="nn.LeakyReLU(0.01)" if parameter.activation == "relu" else "",
        )
