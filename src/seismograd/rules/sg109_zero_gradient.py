"""SG109 zero-gradient."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import final

import numpy as np

from seismograd.analysis.block_rows import BoolArray, as_list, integers, site_of, updates
from seismograd.analysis.script_names import optimizer_name
from seismograd.analysis.zero_gradient_advice import (
    AT_ZERO_LOSS,
    HEALTHY,
    words,
    words_of_zero_weights,
)
from seismograd.analysis.zero_gradient_streak import ZeroGradientStreak
from seismograd.analysis.zero_weights import ZeroWeights
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import (
    EventKind,
    Evidence,
    Fact,
    FactKind,
    Finding,
    IntArray,
    RowBatch,
    State,
    ZeroCause,
)


@final
@dataclass
class ZeroGradient(Rule):
    """All gradients of an optimizer, or all gradients before an operation that blocks them, are
    exactly zero: the weights do not change.

    What it finds
        A softmax over one element, a low-rank adapter with both factors zero, a ratio of two
        log-probabilities that both have a graph, labels that are all masked, a final ReLU that gets
        only negative numbers, weights that are all zero, a loss multiplied by zero, advantages that
        are all zero. Also a rounding or sign operation in the middle of a network, which blocks the
        gradient for all layers before it.

    Why it hurts
        Steps are taken and the loss is logged, but no weight changes, except through weight decay.
        An optimizer with moments keeps going for a while on its stored averages, which hides the
        problem.

    How it decides
        All existing gradients of an optimizer are exactly zero in {in_a_row} steps in a row from
        its first step on (in a run that ends earlier, {min_evaluated} steps are enough), or in
        {later} in a row after steps with gradients that were not zero. Steps without a backward
        pass and steps that `GradScaler` skipped do not count. The rule finds the cause in the graph
        of the backward pass after such a step: operations that let no gradient through, whatever
        they receive. For a rounding operation it is enough that the gradients before it are zero in
        {in_a_row} steps in a row. Two weights, one right after the other, that hold only zeros at
        the first two sampled steps and get gradients of zero in all steps between them multiply
        each other's zeros, though the rest of the model trains.

    False alarms
        A loss that is exactly zero because all margins are satisfied or the target is reached is at
        its minimum and does not count. Nor do gradients in float16 whose graph shows no cause: they
        underflow, which is a different finding. If one factor of a low-rank adapter or a last layer
        starts at zero, the first step changes it.

    What to try
        - Print the loss and its terms: if one never changes, it is not connected to the weights.
        - `loss.grad_fn` and its `next_functions` show the operations, starting with the last.
        - Initialise the weights randomly; detach only what is meant to be a constant.

    References
        - Hu et al. (2021), LoRA: low-rank adaptation of large language models.
        - Bengio, Léonard, Courville (2013), Estimating or propagating gradients through stochastic
          neurons.
    """

    code = "SG109"
    name = "zero-gradient"
    severity = "error"
    needs = ("grad_norm",)
    absorbs = ("SG101", "SG104", "SG106", "SG107", "SG108", "SG111", "SG112", "SG402", "SG403")

    in_a_row: int = 8  # steps
    later: int = 50  # steps, after others that had gradients
    min_evaluated: int = 3  # steps

    _streaks: dict[int, ZeroGradientStreak] = field(
        default_factory=dict[int, ZeroGradientStreak], init=False, repr=False
    )
    _facts: dict[int, list[Fact]] = field(
        default_factory=dict[int, "list[Fact]"], init=False, repr=False
    )
    # behind a rounding
    _behind: dict[int, ZeroGradientStreak] = field(
        default_factory=dict[int, ZeroGradientStreak], init=False, repr=False
    )
    _zero_weights: dict[int, ZeroWeights] = field(
        default_factory=dict[int, ZeroWeights], init=False, repr=False
    )

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        if not len(block):
            return []
        owners = np.array(
            [-1 if each.optimizer is None else each.optimizer for each in block.parameters],
            np.int64,
        )
        for optimizer in sorted(set(owners.tolist()) - {-1}):
            columns = np.flatnonzero(owners == optimizer)
            self._read(block, optimizer, columns)
        return self.found.take()

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind == FactKind.ZERO_GRADIENT:
            self._facts.setdefault(fact.optimizer, []).append(fact)
        return []

    def finish(self) -> Iterable[Finding]:
        for optimizer, streak in self._streaks.items():
            if (
                not streak.has_moved
                and streak.num == streak.num_steps
                and self.min_evaluated <= streak.num < self.in_a_row
            ):
                self._judge(optimizer, streak, streak.last + 1)
        return self.found.take()

    def shortfall(self) -> Message | None:
        has = max((streak.num_steps for streak in self._streaks.values()), default=0)
        return (
            None
            if has >= self.min_evaluated
            else say("needs {needed} steps, has {has}", needed=self.min_evaluated, has=has)
        )

    def _read(self, block: RowBatch, optimizer: int, columns: IntArray) -> None:
        state = block.state[:, columns]
        zero = (state == State.ZERO).any(axis=1)
        other = ((state == State.FINITE) | (state == State.NONFINITE)).any(axis=1)
        counts = updates(block) & (zero | other)
        streak = self._streaks.setdefault(optimizer, ZeroGradientStreak())
        for fact in self._facts.get(optimizer, ()):
            if fact.text("cause") == ZeroCause.ROUNDING and optimizer not in self._behind:
                self._behind[optimizer] = ZeroGradientStreak(
                    since=fact.iteration, names=fact.parameters
                )
        if optimizer in self._behind and optimizer not in self.found:
            self._look_behind(block, optimizer, self._behind[optimizer], counts & other)
        self._look_at_weights(block, optimizer, columns, counts & other)
        if not (zero & ~other & counts).any():  # what there is in any healthy training
            streak.end(int(np.count_nonzero(counts)))
            return
        for row in as_list(np.flatnonzero(counts)):
            if other[row]:
                streak.end(1)
            else:
                self._add(block, optimizer, streak, row, columns[state[row] == State.ZERO])

    def _add(
        self,
        block: RowBatch,
        optimizer: int,
        streak: ZeroGradientStreak,
        row: int,
        columns: IntArray,
    ) -> None:
        """Add another step with all-zero gradients."""
        streak.add(block, optimizer, row, columns)
        if streak.found and optimizer in self.found:
            self.found.extend(streak.last, optimizer)
        elif streak.num == (self.later if streak.has_moved else self.in_a_row):
            self._judge(optimizer, streak, streak.last)

    def _judge(self, optimizer: int, streak: ZeroGradientStreak, until: int) -> None:
        """Make the finding after enough steps; the facts up to this iteration give the reason."""
        facts = [
            each
            for each in self._facts.get(optimizer, ())
            if streak.since <= each.iteration <= until
        ]
        fact = facts[0] if facts else None
        cause = "" if fact is None else fact.text("cause")
        if (
            optimizer in self.found
            or cause in HEALTHY
            or (not cause and streak.is_half)
            or (cause in AT_ZERO_LOSS and not streak.has_loss)
        ):
            return
        streak.found = True
        severity = "warning" if streak.has_moved else self.severity
        self._report(optimizer, streak, fact, severity)

    def _look_behind(
        self, block: RowBatch, optimizer: int, behind: ZeroGradientStreak, counts: BoolArray
    ) -> None:
        """Check whether the parameters behind a rounding get only zeros, though others get more."""
        columns = np.flatnonzero([each.name in behind.names for each in block.parameters])
        iterations = integers(block.steps, "iteration")
        if not len(columns):
            return
        for row in as_list(np.flatnonzero(counts & (iterations >= behind.since))):
            there = block.state[row, columns]
            there = there[there >= State.ZERO]
            if not len(there):
                continue
            behind.num = behind.num + 1 if (there == State.ZERO).all() else 0
            behind.last = int(iterations[row])
            if behind.num == self.in_a_row:
                behind.where = site_of(block, EventKind.STEP, behind.last, optimizer)
                behind.optimizer = optimizer_name(block, optimizer)
                fact = next(
                    each
                    for each in self._facts[optimizer]
                    if each.text("cause") == ZeroCause.ROUNDING
                )
                self._report(optimizer, behind, fact, self.severity)
                return

    def _look_at_weights(
        self, block: RowBatch, optimizer: int, columns: IntArray, moved: BoolArray
    ) -> None:
        """Check whether weights of zeros multiply each other, though others get a gradient."""
        weights = self._zero_weights.setdefault(optimizer, ZeroWeights())
        if not weights.is_over and optimizer not in self.found:
            weights.read(block, optimizer, columns, moved)
            if weights.names:
                self.found.add(self._made_of_zeros(optimizer, weights))
        if weights.names and (last := weights.goes_on_until(block)) > weights.last:
            self.found.extend(last, optimizer)

    def _made_of_zeros(self, optimizer: int, weights: ZeroWeights) -> Finding:
        cause, advice, excerpt = words_of_zero_weights(weights.names, weights.last)
        return self.finding(
            optimizer=optimizer,
            first_step=weights.first,
            last_step=weights.last,
            parameters=weights.names,
            evidence=(Evidence("weight_norm", weights.names[0], weights.last, 0.0, 0.0),),
            cause=cause,
            advice=advice,
            where=weights.where,
            excerpt=excerpt,
        )

    def _report(
        self, optimizer: int, streak: ZeroGradientStreak, fact: Fact | None, severity: str
    ) -> None:
        names = streak.names
        num = len(names) if fact is None else max(len(names), int(fact.number("num")))
        cause, advice, excerpt = words(
            fact, {"optimizer": streak.optimizer, "num": num, "since": streak.since}
        )
        is_behind = streak is self._behind.get(optimizer)
        finding = self.finding(
            severity=severity,
            optimizer=optimizer,
            first_step=max(0, streak.since - 1) if is_behind else streak.since,
            last_step=streak.last,
            parameters=names,
            evidence=(Evidence("grad_norm", names[0], streak.last, 0.0, 0.0),),
            cause=cause,
            advice=advice,
            where=(fact.where if fact is not None else "") or streak.where,
            excerpt=excerpt,
        )
        self.found.add(finding)
