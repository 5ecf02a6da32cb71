"""SG109 zero-gradient."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import numpy as np

from seismograd.analysis.block_rows import BoolArray, as_list
from seismograd.analysis.constant_norm_words import words_of_constant_norm
from seismograd.analysis.self_ratio_sightings import SelfRatioSightings
from seismograd.analysis.self_ratio_words import words_of_self_ratio
from seismograd.analysis.share_of_one_words import words_of_share_of_one
from seismograd.analysis.shared_block import SharedBlock
from seismograd.analysis.zero_gradient_advice import (
    AT_ZERO_LOSS,
    HEALTHY,
    words,
    words_of_zero_weights,
)
from seismograd.analysis.zero_gradient_streak import ZeroGradientStreak
from seismograd.analysis.zero_weights import ZeroWeights
from seismograd.diagnosis.rule import Rule, memory, per_optimizer, too_few
from seismograd.i18n import Message, mark
from seismograd.schema import Evidence, Fact, FactKind, Finding, IntArray, State, ZeroCause

# what is never meant, not even where other parameters have a gradient from another loss
IN_A_PART = frozenset({ZeroCause.ROUNDING, ZeroCause.WITH_ITSELF, ZeroCause.SOFTMAX_OF_ONE})

# what the first graphs show, whatever the gradients are
FROM_THE_FIRST = frozenset({ZeroCause.NORM_OF_ONE, ZeroCause.SHARE_OF_ONE})


@final
@dataclass
class ZeroGradient(Rule):
    """All gradients of an optimizer, or all gradients before an operation that blocks them, are
    exactly zero: the weights do not change.

    What it finds
        A softmax over one element, a low-rank adapter with both factors zero, a ratio of two
        log-probabilities that both have a graph, as where the old policy of a PPO is the policy
        itself, labels that are all masked, a final ReLU that gets
        only negative numbers, weights or advantages that are all zero, a loss multiplied by zero,
        an IoU of boxes that do not meet. A rounding or sign operation, which blocks the gradient
        for all layers before it. A normalization over a single number, such as a `GroupNorm` with
        one channel per group after a global pooling, whose output is its bias, whatever its input.
        A value that is divided by its own sum over one element, such as the weight of a top-1 gate,
        which is then one whatever the router says.

    Why it hurts
        No weight changes, except through weight decay. An optimizer with moments keeps going for a
        while on its stored averages, which hides the problem.

    How it decides
        All existing gradients of an optimizer are exactly zero in {in_a_row} steps in a row from
        its first step on (in a run that ends earlier, {min_evaluated} steps are enough), or in
        {later} in a row after steps with gradients that were not zero. Steps without a backward
        pass and steps that `GradScaler` skipped do not count. The rule finds the cause in the graph
        of the backward pass after such a step: operations that let no gradient through, whatever
        they receive. Before a rounding operation, a ratio of a value with itself or a softmax over
        one element, it is enough that these gradients are zero in {in_a_row} steps in a row, even
        if another loss reaches other parameters. Two weights, one right after the other, that hold
        only zeros at the first two sampled steps and get gradients of zero in all steps between
        them multiply each other's zeros, though the rest of the model trains. A normalization
        over one number is known from the first {min_evaluated} graphs of a line: that no true
        gradient passes it is certain, whatever rounding makes of that; and a value that is divided
        by its own sum, norm or maximum over one element likewise, if the term of the loss reaches
        parameters behind it in no other way. So is a ratio of
        probabilities both sides of which have a graph that leads to the same parameters and whose
        numbers are all one, at {min_evaluated} checks with other steps in between, though other
        terms of the loss give these parameters a gradient; where the ratio weighs what has a graph
        of its own, it does not count.

    False alarms
        A loss that is exactly zero because the target is reached does not count, nor do gradients
        in float16 whose graph shows no cause: they underflow. A parameter that is itself divided by
        its norm, as in a weight normalization, does not count.

    What to try
        - Print the loss and its terms: one that never changes is not connected to the weights.
        - `loss.grad_fn` and its `next_functions` show the operations, starting with the last.
        - Initialise the weights randomly; detach only what is meant to be a constant.

    References
        - Hu et al. (2021), LoRA: low-rank adaptation of large language models.
        - Bengio, Léonard, Courville (2013), Estimating gradients through stochastic neurons.
    """

    code = "SG109"
    name = "zero-gradient"
    severity = "error"
    needs = ("grad_norm",)
    absorbs = ("SG101", "SG104", "SG106", "SG107", "SG108", "SG111", "SG112", "SG402", "SG403")

    in_a_row: int = 8  # steps
    later: int = 50  # steps, after others that had gradients
    min_evaluated: int = 3  # steps

    _streaks: dict[int, ZeroGradientStreak] = per_optimizer(ZeroGradientStreak)
    _facts: dict[int, list[Fact]] = per_optimizer(list[Fact])
    _behind: dict[int, ZeroGradientStreak] = memory(dict[int, ZeroGradientStreak])  # a rounding
    # the first of each optimizer and cause
    _of_one: dict[tuple[int, str], Fact] = memory(dict[tuple[int, str], Fact])
    _zero_weights: dict[int, ZeroWeights] = per_optimizer(ZeroWeights)
    _ratios: dict[int, SelfRatioSightings] = memory(dict[int, SelfRatioSightings])

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        for optimizer, columns in block.columns_of.items():
            self._read(block, optimizer, columns)
        return self.found.take()

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind == FactKind.ZERO_GRADIENT and fact.text("cause") in FROM_THE_FIRST:
            self._learn_of_one(fact)
        elif fact.kind == FactKind.ZERO_GRADIENT:
            self._facts[fact.optimizer].append(fact)
        elif fact.kind == FactKind.SELF_RATIO:
            seen = self._ratios.setdefault(fact.optimizer, SelfRatioSightings())
            seen.facts.append(fact)
            if seen.is_found:
                self.found.extend(fact.iteration, fact.optimizer)
        return self.found.take()

    def finish(self) -> Iterable[Finding]:
        for optimizer, streak in self._streaks.items():
            is_whole_run = not streak.has_moved and streak.num == streak.num_steps
            if is_whole_run and self.min_evaluated <= streak.num < self.in_a_row:
                self._judge(optimizer, streak, streak.last + 1)
        return self.found.take()

    def shortfall(self) -> Message | None:
        has = max((streak.num_steps for streak in self._streaks.values()), default=0)
        return too_few(mark("needs {needed} steps, has {has}"), has, self.min_evaluated)

    def _read(self, block: SharedBlock, optimizer: int, columns: IntArray) -> None:
        state = block.state[:, columns]
        zero = (state == State.ZERO).any(axis=1)
        other = ((state == State.FINITE) | (state == State.NONFINITE)).any(axis=1)
        counts, streak = block.updates & (zero | other), self._streaks[optimizer]
        self._look_behind(block, optimizer, counts & other)
        self._look_at_weights(block, optimizer, columns, counts & other)
        if optimizer in self._ratios:
            self._look_at_ratio(block, optimizer, counts & other)
        if not (zero & ~other & counts).any():  # what there is in any healthy training
            streak.end(int(np.count_nonzero(counts)))
            return
        for row in as_list(np.flatnonzero(counts)):
            if other[row]:
                streak.end(1)
                continue
            streak.add(block, optimizer, row, columns[state[row] == State.ZERO])
            if streak.found and optimizer in self.found:
                self.found.extend(streak.last, optimizer)
            elif streak.num == (self.later if streak.has_moved else self.in_a_row):
                self._judge(optimizer, streak, streak.last)

    def _judge(self, optimizer: int, streak: ZeroGradientStreak, until: int) -> None:
        """Make the finding after enough steps; the facts up to this iteration give the reason."""
        facts = self._facts[optimizer]
        fact = next((each for each in facts if streak.since <= each.iteration <= until), None)
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
        self._report(optimizer, streak, fact, streak.since, severity)

    def _look_behind(self, block: SharedBlock, optimizer: int, counts: BoolArray) -> None:
        """Judge the parameters before a rounding, or behind one of several losses that passes
        nothing back, which get only zeros where others get more.
        """
        facts = (each for each in self._facts[optimizer] if each.text("cause") in IN_A_PART)
        fact = next(facts, None)
        if fact is None or optimizer in self.found:
            return
        begun = ZeroGradientStreak(since=fact.iteration, names=fact.parameters)
        behind = self._behind.setdefault(optimizer, begun)
        if behind.read_behind(block, optimizer, counts, self.in_a_row):
            self._report(optimizer, behind, fact, max(0, behind.since - 1), self.severity)

    def _look_at_weights(
        self, block: SharedBlock, optimizer: int, columns: IntArray, moved: BoolArray
    ) -> None:
        """Judge whether weights of zeros multiply each other, though others get a gradient."""
        weights = self._zero_weights[optimizer]
        if not weights.is_over and optimizer not in self.found:
            weights.read(block, optimizer, columns, moved)
            if weights.names:
                self.found.add(self._made_of_zeros(optimizer, weights))
        if weights.names and (last := weights.goes_on_until(block)) > weights.last:
            self.found.extend(last, optimizer)

    def _look_at_ratio(self, block: SharedBlock, optimizer: int, moved: BoolArray) -> None:
        """Judge a ratio of a policy with itself, where other terms train the policy."""
        seen = self._ratios[optimizer]
        fact = seen.enough(block, moved, self.min_evaluated)
        if fact is None or optimizer in self.found:
            return
        seen.is_found = True
        times = fact.number("times")
        self.found.add(
            self.finding_of_fact(
                fact,
                *words_of_self_ratio(fact),
                evidence=(Evidence("self_ratio", "", fact.iteration, times, self.min_evaluated),),
                first_step=seen.facts[0].iteration,
                last_step=seen.facts[-1].iteration,
            )
        )

    def _learn_of_one(self, fact: Fact) -> None:
        """Report what is computed over one number, and therefore does not depend on it, that is
        there in the first graphs.
        """
        is_norm = fact.text("cause") == ZeroCause.NORM_OF_ONE
        first = self._of_one.setdefault((fact.optimizer, fact.text("cause")), fact)
        if fact.optimizer in self.found or fact.number("times") < self.min_evaluated:
            return
        evidence = (
            Evidence("norms_of_one", "", fact.iteration, fact.number("norms"), 0.0)
            if is_norm
            else Evidence("shares_of_one", "", fact.iteration, fact.number("times"), 0.0)
        )
        self.found.add(
            self.finding_of_fact(
                fact,
                *(words_of_constant_norm(fact) if is_norm else words_of_share_of_one(fact)),
                evidence=(evidence,),
                first_step=first.iteration,
            )
        )

    def _made_of_zeros(self, optimizer: int, weights: ZeroWeights) -> Finding:
        return self.finding(
            *words_of_zero_weights(weights.names, weights.last, weights.model),
            optimizer=optimizer,
            first_step=weights.first,
            last_step=weights.last,
            parameters=weights.names,
            evidence=(Evidence("weight_norm", weights.names[0], weights.last, 0.0, 0.0),),
            where=weights.where,
        )

    def _report(
        self,
        optimizer: int,
        streak: ZeroGradientStreak,
        fact: Fact | None,
        first: int,
        severity: str,
    ) -> None:
        names = streak.names
        num = len(names) if fact is None else max(len(names), int(fact.number("num")))
        values = {"optimizer": streak.optimizer, "num": num, "since": streak.since}
        is_part = self._behind.get(optimizer) is streak
        finding = self.finding(
            *words(fact, values, in_a_part=is_part),
            severity=severity,
            optimizer=optimizer,
            first_step=first,
            last_step=streak.last,
            parameters=names,
            evidence=(Evidence("grad_norm", names[0], streak.last, 0.0, 0.0),),
            where=(fact.where if fact is not None else "") or streak.where,
        )
        self.found.add(finding)
