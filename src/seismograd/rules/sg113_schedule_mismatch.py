"""SG113 schedule-mismatch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import numpy as np

from seismograd.analysis.block_rows import flagged, integers, numbers
from seismograd.analysis.growing_rate import RateGrowth, endless
from seismograd.analysis.loss_level import LossLevel
from seismograd.analysis.plateau_mode import wrong_mode
from seismograd.analysis.schedule_fit import misfit
from seismograd.analysis.schedule_misfit import Misfit
from seismograd.analysis.schedule_use import (
    begins_early,
    left_behind,
    never_stepped,
    not_loaded,
    remade,
    too_early,
)
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.fact_rule import FactRule
from seismograd.diagnosis.rule import memory, per_optimizer
from seismograd.schema import AnyArray, EventKind, Evidence, Fact, FactKind, Finding, StepFlag

MAX_COUNTED = 256  # losses whose number of samples is averaged


@final
@dataclass
class ScheduleMismatch(FactRule):
    """The learning rate schedule does not fit the training: wrong length, unit, order, mode or
    optimizer.

    What it finds
        A schedule that counts epochs but is stepped after every batch, or the reverse; one whose
        length counts samples, micro-batches or the batches of all processes; a learning rate that
        is zero, or nearly so, for most of the training; a state of a finished schedule that was
        loaded; a function for `LambdaLR` that returns a learning rate; a warm-up that is longer
        than the training; a scheduler that is stepped before the optimizer, belongs to one that is
        never stepped or was replaced, or starts over again and again; ReduceLROnPlateau with the
        wrong mode; a factor or a gamma that raises the learning rate without end, until the loss
        explodes.

    Why it hurts
        There is no error message: the loss stops improving too early or never settles.

    How it decides
        The rule compares the length of each schedule with the calls of its `step()` and of
        `optimizer.step()`. Zero: the learning rate of all parameter groups is zero for the last
        {zero_calls} calls, which are at least {zero_share:.0%} of all. Swinging: a cosine without
        restarts, stepped after every batch, has gone through {swings} of its lengths, and one
        length is less than half an epoch, or equals the number of epochs; without a DataLoader that
        shows epochs, twice as many are needed; or it is stepped once per epoch, and the training
        ends after {turns} of its lengths; or, however it is stepped, it ends after two lengths or
        more at the highest rate again. Over: stepped after every batch, it ended in
        the first eighth of the calls, within half an epoch, at less than half of its highest rate.
        Close to zero: the rate is below a ten-thousandth of its highest for the last
        {low_share:.0%} of the calls. Unfinished: at most {unfinished:.0%} of the length is done at
        the end, and the length equals the number of steps, micro-batches, samples, or steps of all
        processes, within {tolerance:.0%}. Started over: {min_made} schedulers of the same class
        were created for one optimizer, one after another, at the same line. Mode: with `max`, the
        metric starts within a factor of {near:g} of the loss and has fallen by {moved:.0%}, like
        the loss, and most of its changes were falls or it never rose above its start; with `min`,
        it has risen by {moved:.0%} and never fallen below its start, lies between zero and a
        hundred, and the loss has fallen. In both cases the learning rate was lowered at least once.
        Not resumed: the state of the optimizer was loaded, its saved learning rate is not the one
        with which the schedule began, and the new scheduler takes its first step after the
        optimizer's. Finished: the state of a scheduler was loaded, and the rate is zero from its
        first call on. Never stepped: a scheduler set the rate to zero when it was created, all
        rates are zero, and no scheduler of that optimizer is ever stepped. Left behind: a scheduler
        has changed its rate by {moved:.0%} or more in its last calls, {left_calls} at least,
        between which its optimizer made no step while another one, which has no scheduler and one
        rate all the time, trained the same parameters for {zero_calls} steps or more. No factor: at
        the end, the highest rate of a `LambdaLR` is the square of the optimizer's own, or never
        came above {max_factor:.0%} of it. Warm-up: a run of {warm_up_calls} steps or more ends
        while the rate still rises and has come to {warm_up:.0%} of the optimizer's at most. Without
        end: the learning rate never fell, rose again and again, and is {min_growth:g} to
        {max_growth:g} times that of the optimizer where the loss is no longer finite, or where a
        median of recent losses is above the first ones and several times the lowest.

    False alarms
        A cosine that is meant to swing, or a schedule that is meant to end early; a short trial of
        a long training, which ends within its warm-up. A test of learning rates raises them on
        purpose until the loss explodes: it does not count where it begins more than {max_growth:g}
        times lower. Neither do OneCycleLR and CyclicLR, or a warm-up, which ends at the learning
        rate of the optimizer.

    What to try
        - Set `total_steps = epochs * len(loader)`, divided by the number of micro-batches per step,
          and call `scheduler.step()` right after `optimizer.step()`; for a schedule in epochs, once
          per epoch.
        - In Lightning, set `interval="step"` or `interval="epoch"`.
        - Use `ReduceLROnPlateau(optimizer, mode="min")` for a loss, `mode="max"` for an accuracy.
        - Save and load `scheduler.state_dict()` with that of the optimizer.

    References
        - PyTorch documentation, torch.optim: how to adjust learning rate.
        - Smith, Topin (2019), Super-convergence; Loshchilov, Hutter (2017), SGDR.
    """

    code = "SG113"
    name = "schedule-mismatch"
    severity = "warning"
    needs_facts = (
        FactKind.SCHEDULE,
        FactKind.SCHEDULE_REMADE,
        FactKind.SCHEDULE_NOT_LOADED,
        FactKind.PLATEAU,
    )
    absorbs = ("SG103", "SG106", "SG107", "SG108")
    absorbs_as_error = ("SG102", "SG109", "SG201", "SG202", "SG501")

    zero_calls: int = 10
    zero_share: float = 0.1
    swings: int = 4
    turns: int = 3  # lengths of a cosine that is stepped once per epoch
    low_share: float = 0.25
    unfinished: float = 0.6
    tolerance: float = 0.03
    min_made: int = 3
    near: float = 2.5
    moved: float = 0.1
    max_factor: float = 0.05  # of the optimizer's rate, that a LambdaLR ever gives
    warm_up: float = 0.25  # of the optimizer's rate, at the end of a warm-up
    warm_up_calls: int = 60
    min_growth: float = 10.0  # of the rate, where the loss explodes
    max_growth: float = 10_000.0
    left_calls: int = 4

    _begun: dict[int, Fact] = memory(dict[int, Fact])  # by the numbers of schedules
    _last: dict[int, Fact] = memory(dict[int, Fact])
    _plateaus: dict[int, Fact] = memory(dict[int, Fact])
    _rates: dict[int, float] = memory(dict[int, float])  # the highest of each optimizer
    _lowest: dict[int, float] = memory(dict[int, float])  # rates
    _growth: dict[int, RateGrowth] = per_optimizer(RateGrowth)
    _ranks: dict[int, int] = memory(dict[int, int])  # of what was found
    _loss: LossLevel = memory(lambda: LossLevel(num_recent=5))
    _counts: list[float] = memory(list[float])

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        self._loss.add(numbers(block.steps, "loss"))
        if len(self._counts) < MAX_COUNTED:
            is_backward = integers(block.events, "kind") == EventKind.BACKWARD
            counts = numbers(block.events, "count")[is_backward]
            self._counts += counts[np.isfinite(counts)].tolist()[: MAX_COUNTED - len(self._counts)]
        self._read_rates(block.events[integers(block.events, "kind") == EventKind.STEP])
        self._watch_growth(block)
        return super().observe(block)

    def judge(self, fact: Fact) -> None:
        number = _number(fact)
        match fact.kind:
            case FactKind.SCHEDULE:
                self._begun.setdefault(number, fact)
                self._last[number] = fact
                if fact.number("calls"):
                    self._take(fact, misfit(fact, self, math.nan))
            case FactKind.PLATEAU:
                self._begun.setdefault(number, fact)
                self._plateaus[number] = fact
            case FactKind.SCHEDULE_NOT_LOADED:
                self._take(fact, not_loaded(fact))
            case _:
                if fact.number("made") >= self.min_made:
                    self._take(fact, remade(fact, self.min_made))

    def finish(self) -> Iterable[Finding]:
        mean = sum(self._counts) / len(self._counts) if self._counts else math.nan
        for fact in self._last.values():
            if not fact.number("calls"):
                is_zero = self._rates.get(fact.optimizer) == 0
                self._take(fact, never_stepped(fact, self) if is_zero else None)
                continue
            self._take(fact, misfit(fact, self, mean * fact.number("backwards")))
            self._take(fact, self._endless(fact))
            if fact.text("successor"):
                index = int(fact.number("successor_index"))
                rates = self._lowest.get(index, math.nan), self._rates.get(index, math.nan)
                self._take(fact, left_behind(fact, rates, self))
        for number, fact in self._last.items():
            if begins_early(self._begun[number]) and fact.number("stepped"):
                self._take(fact, too_early(self._begun[number], fact))
        for fact in self._plateaus.values():
            self._take(fact, wrong_mode(fact, self._loss, self.near, self.moved))
        return self.found.take()

    def _read_rates(self, steps: AnyArray) -> None:
        """Read the rates of steps, each as often as it changes."""
        optimizers, rates = integers(steps, "optimizer"), numbers(steps, "value")
        is_new = np.ones(len(steps), np.bool_)
        is_new[1:] = (optimizers[1:] != optimizers[:-1]) | (rates[1:] != rates[:-1])
        for optimizer, rate in zip(
            optimizers[is_new].tolist(), rates[is_new].tolist(), strict=True
        ):
            self._rates[optimizer] = max(rate, self._rates.get(optimizer, 0.0))
            self._lowest[optimizer] = min(rate, self._lowest.get(optimizer, math.inf))

    def _watch_growth(self, block: SharedBlock) -> None:
        """Read rates and losses up to where the loss of an optimizer breaks."""
        rates, losses = numbers(block.steps, "lr"), numbers(block.steps, "loss")
        iterations = integers(block.steps, "iteration")
        has_loss = ~flagged(block.steps, StepFlag.NO_LOSS)
        for optimizer, rows in block.updated:
            growth, read = self._growth[optimizer], rows[has_loss[rows]]
            if growth.read(iterations[read], rates[read], losses[read]):
                for fact in self._last.values():
                    is_its = fact.optimizer == optimizer and fact.iteration <= growth.broken_at
                    self._take(fact, self._endless(fact) if is_its else None)

    def _endless(self, fact: Fact) -> Misfit | None:
        return endless(fact, self._growth[fact.optimizer], self.min_growth, self.max_growth)

    def _take(self, fact: Fact, found: Misfit | None) -> None:
        """Keep the weightiest of several misfits of an optimizer, from the first call of any."""
        rank, earlier = self._ranks.get(fact.optimizer, -1), self.found.get(fact.optimizer)
        if found is None or found.rank < rank:
            return
        if earlier is not None and found.rank == rank and not fact.number("ended"):
            self.found.extend(fact.iteration, fact.optimizer)
            return
        first = self._begun.get(_number(fact), fact).iteration
        if not fact.number("calls"):
            first = int(fact.number("zero_iteration"))
        self._ranks[fact.optimizer] = found.rank
        finding = self.finding(
            severity=found.severity,
            optimizer=fact.optimizer,
            first_step=first if earlier is None else earlier.first_step,
            last_step=max(fact.iteration, 0 if earlier is None else earlier.last_step),
            evidence=(Evidence("schedule", "", fact.iteration, found.value, found.limit),),
            cause=found.cause,
            advice=found.advice,
            where=found.where or fact.where,
            excerpt=found.excerpt or "print(scheduler.get_last_lr(), scheduler.last_epoch)",
        )
        self.found.add(finding)


def _number(fact: Fact) -> int:
    """Return the number of the schedule that a fact is about."""
    return int(fact.number("number")) if "number" in fact.values else -1
