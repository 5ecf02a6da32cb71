"""SG104 dead-units."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from seismograd.analysis.block_rows import (
    BoolArray,
    as_list,
    iteration_at,
    numbers,
    site_of,
    statistic,
    weight_norms,
)
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import Rule, memory, too_few
from seismograd.i18n import Message, mark, say
from seismograd.rules.sg104.dying_layers import DyingLayer, DyingLayers
from seismograd.rules.sg104.flat_layers import FlatLayer, FlatLayers, words_of_flat_function
from seismograd.rules.sg104.layer_connections import LayerConnections
from seismograd.rules.sg104.seen_samples import SeenSamples
from seismograd.schema import (
    EventKind,
    Evidence,
    Fact,
    FactKind,
    Finding,
    FloatArray,
    IntArray,
    RowBatch,
    State,
)


@final
@dataclass
class DeadUnits(Rule):
    """Most units of a layer never get a gradient: they are dead and do not recover.

    What it finds
        Layers followed by a ReLU, with units whose output is zero for every input; or by a sigmoid
        or tanh, with units so saturated that the derivative is exactly zero; or by a custom
        autograd Function whose backward has come to return only zeros.

    Why it hurts
        Where the output of ReLU is zero, its derivative is zero as well, so nothing can revive the
        unit. Once all units of a layer are dead, no layer before it trains any more.

    How it decides
        At every tenth step the rule counts the rows of each weight whose gradient was exactly zero
        in every step since the last count. A layer is dead if this applies to at least
        {min_share:.0%} of its rows (it must have at least {min_rows:g}) in {num_samples:g} counts
        in a row, each over at least {min_seen:g} samples. The loss must still be above
        {min_loss:.0%} of its first value, because a network that has memorised its data gets zeros,
        too. If the loss is still at least {stuck_loss:.0%} of its first value, a share of
        {min_stuck_share:.0%} is enough, as the mean over all layers followed by such an activation.
        A layer without any gradient counts only if its bias and the layers before it get none
        either, while a layer after it does: an expert that received no input is idle, not dead. Nor
        does a layer count that less than {min_signal:g} of the last layer's gradient reaches, as
        the root mean square of a scalar: there the gradient vanished on its way. What a custom
        Function cuts off is seen in its backward, which gets a gradient and returns zeros; it
        counts after {min_cut_off:g} steps without a gradient in a row, when it had one before.

    False alarms
        A narrow layer with very small batches; a Function that is switched off on purpose. In
        networks that work, up to half of the units of a ReLU layer are often dead; they are not
        reported.

    What to try
        - Lower the learning rate or warm it up: units usually die in one large update.
        - Check the biases: a large negative bias silences its unit. Initialise biases to zero.
        - Initialise for ReLU (`nn.init.kaiming_normal_`), or use LeakyReLU, GELU or SiLU.

    References
        - Lu, Shin, Su, Karniadakis (2020), Dying ReLU and initialization.
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
    min_cut_off: int = 80  # steps in a row
    min_signal: float = 1e-4  # of the last layer's gradient, per scalar

    _layers: DyingLayers = memory(DyingLayers)
    _network: LayerConnections = memory(lambda: LayerConnections(()))
    _seen: SeenSamples = memory(SeenSamples)
    _first_loss: dict[int, float] = memory(dict[int, float])
    _num_samples: int = memory(int)
    _since: int = memory(lambda: -1)  # iteration after the last count
    _flat: FlatLayers = memory(FlatLayers)
    _cut_off: dict[int, FlatLayer] = memory(dict[int, FlatLayer])  # those that were reported

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        if self._layers.take_in(block.parameters, self.min_rows):
            self._network = LayerConnections(block.parameters)
        loss = numbers(block.steps, "loss")
        self._flat.read(block, self.min_cut_off)
        for optimizer in set(block.optimizers_of_rows) - self._first_loss.keys():
            own = loss[(block.steps["optimizer"] == optimizer) & np.isfinite(loss)]
            if len(own):
                self._first_loss[optimizer] = float(own[0])
        seen = self._seen.until_each_sample(block)
        if not len(seen):
            self._look_at_functions()
            return self.found.take()
        self._num_samples += len(seen)
        at, columns = block.sample_rows, self._layers.columns
        state = block.state[at][:, columns]
        measured = (state == State.ZERO) | (state == State.FINITE)
        counted = np.asarray(block.samples["dead_rows"][:, columns], np.float64)
        dead = np.nan_to_num(counted).astype(np.int64)
        least = min(self.min_share, self.min_stuck_share) * self._layers.num_rows
        if not (measured & (dead >= least)).any():
            self._layers.revive(measured.any(axis=0))
        else:
            for sample, row in enumerate(as_list(at)):
                self._look_at_functions(iteration_at(block, row))
                self._count(block, row, dead[sample], measured[sample], seen[sample])
                self._since = iteration_at(block, row) + 1
        self._since = iteration_at(block, int(at[-1])) + 1
        self._look_at_functions()
        return self.found.take()

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind == FactKind.FUNCTION_FLAT:
            self._flat.learn(fact)
        return ()

    def shortfall(self) -> Message | None:
        template = mark("needs {needed} counts of dead rows, has {has}")
        return too_few(template, self._num_samples, self.min_evaluated)

    def _count(
        self, block: RowBatch, row: int, dead: IntArray, measured: BoolArray, seen: float
    ) -> None:
        """Take the dead rows of one sampled iteration, where they were counted."""
        layers, iteration = self._layers, iteration_at(block, row)
        limit = self._limit(block, row, (dead / layers.num_rows)[measured])
        is_dead = measured & (dead >= limit) & (seen >= self.min_seen)
        norms = weight_norms(block, row)
        if norms is not None:  # weights of zeros make zeros of any input, and are not dead by it
            is_dead &= norms[layers.columns] != 0
        there = np.flatnonzero(is_dead)
        if len(there):
            norms = statistic(block, "grad_norm")[row]
            share = dead[there] / layers.num_rows[there]
            is_dead[there] = self._network.are_dead_by_themselves(
                block.state[row], norms, layers.columns[there], share, self.min_signal
            )
        layers.revive(measured & ~is_dead)
        if is_dead.any():
            num = layers.kill(is_dead, max(self._since, 0), iteration, dead, limit)
            for owner in layers.owners(is_dead & (num >= self.num_samples)):
                self._report(block, owner, iteration)

    def _limit(self, block: RowBatch, row: int, share: FloatArray) -> FloatArray:
        """Return how many dead rows make a layer dead, inf where the loss has fallen far."""
        loss = float(block.steps["loss"][row])
        first_loss = self._first_loss.get(int(block.steps["optimizer"][row]), math.nan)
        if loss < self.min_loss * first_loss:
            return np.full(len(self._layers.num_rows), np.inf)
        stuck = len(share) > 0 and float(share.mean()) >= self.min_stuck_share
        stuck &= loss >= self.stuck_loss * first_loss
        share_of_rows = self.min_stuck_share if stuck else self.min_share
        return np.multiply(self._layers.num_rows, share_of_rows, dtype=np.float64)

    def _look_at_functions(self, until: float = math.inf) -> None:
        """Report what a custom Function has cut off by an iteration."""
        for optimizer, layer in self._flat.cut_off(until):
            if optimizer not in self.found:
                self._cut_off[optimizer] = layer
                self.found.add(self._finding_of_function(optimizer, layer))
            elif self._cut_off.get(optimizer) is layer and math.isinf(until):
                self.found.extend(layer.last, optimizer)

    def _finding_of_function(self, optimizer: int, layer: FlatLayer) -> Finding:
        names = layer.fact.parameters
        return self.finding(
            *words_of_flat_function(layer),
            optimizer=optimizer,
            first_step=layer.first,
            last_step=layer.last,
            parameters=names,
            evidence=(Evidence("grad_norm", names[0], layer.reached, 0.0, 0.0),),
            where=layer.fact.where,
        )

    def _report(self, block: RowBatch, owner: int, iteration: int) -> None:
        earlier, now = self.found.get(owner), self._layers.dead_now(owner, self.num_samples)
        if earlier is None:
            self.found.add(self._finding(block, owner, iteration, now))
            return
        names = dict.fromkeys((*earlier.parameters, *(each.parameter.name for each in now)))
        self.found.add(replace(earlier, parameters=tuple(names)))
        self.found.extend(iteration, owner)

    def _finding(
        self, block: RowBatch, owner: int, iteration: int, now: Sequence[DyingLayer]
    ) -> Finding:
        worst = max(now, key=lambda each: (each.share, -each.position))
        first = min(each.first for each in now)
        parameter = worst.parameter
        return self.finding(
            optimizer=owner,
            first_step=first,
            last_step=iteration,
            parameters=tuple(each.parameter.name for each in now),
            evidence=tuple(
                Evidence("dead_rows", each.parameter.name, each.last, each.dead, each.limit)
                for each in now
            ),
            cause=say(
                "{dead} of the {rows} units of {parameter} are dead: since step {first} no input "
                "has given them a gradient, because the derivative of {activation} is zero for all "
                "of their inputs",
                dead=worst.dead,
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
            seen_only=True,
            excerpt="nn.LeakyReLU(0.01)" if parameter.activation == "relu" else "",
        )
