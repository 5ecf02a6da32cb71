"""SG113 schedule-mismatch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import integers, numbers
from seismograd.analysis.schedule_fit import Limits, Misfit, begins_early, misfit, too_early
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import EventKind, Evidence, Fact, FactKind, Finding, RowBatch

FIRST_LOSSES = 5


@final
@dataclass
class ScheduleMismatch(Rule):
    """The learning rate schedule does not fit the training: its length, its unit, its order, its
    mode or its optimizer.

    What it finds
        A schedule that counts epochs and is stepped after every batch, or the reverse; one whose
        length counts samples, micro-batches or the batches of all processes. A learning rate that
        is zero, or next to nothing, for most of the training. A scheduler that is stepped before
        the optimizer, belongs to an optimizer that is never stepped, or begins anew again and
        again. ReduceLROnPlateau with the wrong mode, which takes every improvement for a plateau.

    Why it hurts
        Nothing raises. The loss comes to rest too early or never does, and the learning rate looks
        wrong, though only its course is.

    How it decides
        From what each scheduler is made for, how often it was stepped, and how often its optimizer
        was. Zero: the rate of all groups is zero for the last {zero_calls} calls and
        {zero_share:.0%} of them. Swinging: a cosine without restarts that is stepped after every
        batch has gone through {swings} of its lengths, where one is less than half an epoch, or is
        as many calls as there were epochs; without a DataLoader that shows epochs, twice as many.
        Next to nothing: less than a ten-thousandth of the highest rate, stepped after every batch,
        for the last {low_share:.0%} of the calls. Unfinished: at the end at most {unfinished:.0%}
        of its length was made, and its length is the number of steps, micro-batches or samples, or
        of steps of all processes, within {tolerance:.0%}. Begun anew: {min_made} schedulers of one
        class over one optimizer, one after another, at one line. Mode: with `max`, the metric
        begins within a factor of {near:g} of the loss, and has fallen by {moved:.0%} as the loss
        has; with `min`, it has risen from the first call on, by {moved:.0%}, lies between zero and
        a hundred, and the loss has fallen; the rate was lowered at least once. Not resumed: the
        state of the optimizer was loaded, its saved rate is not the one with which the schedule
        began, and the new scheduler takes its first step after the optimizer's.

    False alarms
        A cosine over a few batches that is meant to swing. A schedule that is meant to end long
        before the training.

    What to try
        - `total_steps = epochs * len(loader)`, divided by the micro-batches in a window, and
          `scheduler.step()` right after `optimizer.step()`.
        - For a schedule in epochs call `scheduler.step()` once, after the loop over batches.
        - In Lightning say which it is, with `interval="step"` or `interval="epoch"`.
        - `ReduceLROnPlateau(optimizer, mode="min")` for a loss, `mode="max"` for an accuracy.
        - Save and load `scheduler.state_dict()` with that of the optimizer.
        - Print `scheduler.get_last_lr()` at the beginning, in the middle and at the end.

    References
        - PyTorch documentation, torch.optim: how to adjust learning rate.
        - Smith, Topin (2019), Super-convergence; Loshchilov, Hutter (2017), SGDR.
    """

    code: ClassVar[str] = "SG113"
    name: ClassVar[str] = "schedule-mismatch"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (
        FactKind.SCHEDULE,
        FactKind.SCHEDULE_REMADE,
        FactKind.PLATEAU,
    )
    absorbs: ClassVar[tuple[str, ...]] = ("SG103", "SG106", "SG107", "SG108")

    zero_calls: int = 10
    zero_share: float = 0.1
    swings: int = 4
    low_share: float = 0.5
    unfinished: float = 0.6
    tolerance: float = 0.03
    min_made: int = 3
    near: float = 2.5
    moved: float = 0.1
    min_evaluated: int = 5  # steps

    _num_rows: int = field(default=0, init=False, repr=False)
    _begun: dict[int, Fact] = field(default_factory=dict[int, Fact], init=False, repr=False)
    _last: dict[int, Fact] = field(default_factory=dict[int, Fact], init=False, repr=False)
    _plateaus: dict[int, Fact] = field(default_factory=dict[int, Fact], init=False, repr=False)
    _found: dict[int, tuple[int, Finding]] = field(
        default_factory=dict[int, "tuple[int, Finding]"], init=False, repr=False
    )
    _losses: list[float] = field(default_factory=list[float], init=False, repr=False)
    _recent: list[float] = field(default_factory=list[float], init=False, repr=False)
    _counts: list[float] = field(default_factory=list[float], init=False, repr=False)

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        self._num_rows += len(block)
        losses = numbers(block.steps, "loss")
        known = losses[np.isfinite(losses)].tolist()
        self._losses.extend(known[: FIRST_LOSSES - len(self._losses)])
        self._recent = [*self._recent, *known][-FIRST_LOSSES:]
        counts = numbers(block.events, "count")[
            integers(block.events, "kind") == EventKind.BACKWARD
        ]
        self._counts.extend(counts[np.isfinite(counts)].tolist()[: 256 - len(self._counts)])
        return ()

    def learn(self, fact: Fact) -> Iterator[Finding]:
        number = int(fact.number("number")) if "number" in fact.values else -1
        if fact.kind == FactKind.SCHEDULE:
            self._begun.setdefault(number, fact)
            self._last[number] = fact
            found = misfit(fact, self._limits, math.nan)
            if found is not None:
                yield from self._take(fact, found)
        elif fact.kind == FactKind.PLATEAU:
            self._begun.setdefault(number, fact)
            self._plateaus[number] = fact
        elif fact.kind == FactKind.SCHEDULE_REMADE and fact.number("made") >= self.min_made:
            yield from self._take(fact, _remade(fact))
        elif fact.kind == FactKind.SCHEDULE_NOT_LOADED:
            yield from self._take(fact, _not_loaded(fact))

    def finish(self) -> Iterator[Finding]:
        mean = sum(self._counts) / len(self._counts) if self._counts else math.nan
        for fact in self._last.values():
            found = misfit(fact, self._limits, mean * fact.number("backwards"))
            if found is not None:
                yield from self._take(fact, found)
        for number, fact in self._last.items():
            if begins_early(self._begun[number]) and fact.number("stepped"):
                yield from self._take(fact, too_early(self._begun[number]))
        for fact in self._plateaus.values():
            found = self._wrong_mode(fact)
            if found is not None:
                yield from self._take(fact, found)

    def shortfall(self) -> Message | None:
        if self._num_rows < self.min_evaluated:
            return say(
                "needs {needed} steps, has {has}", needed=self.min_evaluated, has=self._num_rows
            )
        return None

    @property
    def _limits(self) -> Limits:
        return Limits(
            self.zero_calls,
            self.zero_share,
            self.swings,
            self.low_share,
            self.unfinished,
            self.tolerance,
        )

    def _wrong_mode(self, fact: Fact) -> Misfit | None:
        """Return whether it mistakes what is better for what is worse."""
        first, last = fact.number("first"), fact.number("last")
        moves = fact.number("falls") + fact.number("rises")
        if not self._losses or not moves or not fact.number("reductions"):
            return None
        before, now = float(np.median(self._losses)), float(np.median(self._recent))
        if not now < (1 - self.moved) * before:
            return None
        values: dict[str, str | int | float] = {
            "line": fact.where or "?",
            "first": first,
            "last": last,
            "calls": int(fact.number("calls")),
            "num": int(fact.number("reductions")),
            "lr": fact.number("lr"),
        }
        most = 0.6 * moves
        near = before / self.near <= first <= before * self.near
        if fact.text("mode") == "max":
            fallen = fact.number("falls") >= most and last <= (1 - self.moved) * first
            if not near or not fallen:
                return None
            return Misfit(
                2,
                "warning",
                say(
                    "ReduceLROnPlateau at {line} has mode='max' and is given what falls as the "
                    "loss does, from {first:.3g} to {last:.3g}: each improvement counts as a "
                    "plateau, and the learning rate was lowered {num} {num:time|times}, to "
                    "{lr:.2g}",
                    **values,
                ),
                say("for a loss, which is better when it is lower, it has to be mode='min'"),
                last,
                first,
            )
        risen = (
            fact.number("rises") >= most
            and last >= (1 + self.moved) * first
            and fact.number("lowest") >= 0.98 * first
            and 0 <= first <= 100 >= last
        )
        if near or not risen:
            return None
        return Misfit(
            2,
            "warning",
            say(
                "ReduceLROnPlateau at {line} has mode='min' and is given what rises as the loss "
                "falls, from {first:.3g} to {last:.3g}: each improvement counts as a plateau, and "
                "the learning rate was lowered {num} {num:time|times}, to {lr:.2g}",
                **values,
            ),
            say("for an accuracy or a score, which is better when it is higher, set mode='max'"),
            last,
            first,
        )

    def _take(self, fact: Fact, found: Misfit) -> Iterator[Finding]:
        """Keep the weightiest of several misfits of an optimizer, from the first call of any."""
        rank, known = self._found.get(fact.optimizer, (-1, None))
        if known is not None and found.rank < rank:
            return
        if known is not None and found.rank == rank:
            known = replace(known, last_step=max(known.last_step, fact.iteration))
            self._found[fact.optimizer] = rank, known
            yield known
            return
        number = int(fact.number("number")) if "number" in fact.values else -1
        begun = self._begun.get(number, fact).iteration
        finding = Finding(
            code=self.code,
            name=self.name,
            severity=found.severity,
            optimizer=fact.optimizer,
            first_step=begun if known is None else known.first_step,
            last_step=max(fact.iteration, 0 if known is None else known.last_step),
            parameters=(),
            evidence=(Evidence("schedule", "", fact.iteration, found.value, found.limit),),
            cause=found.cause,
            advice=found.advice,
            where=fact.where,
            excerpt="print(scheduler.get_last_lr(), scheduler.last_epoch)",
        )
        self._found[fact.optimizer] = found.rank, finding
        yield finding


def _remade(fact: Fact) -> Misfit:
    values: dict[str, str | int | float] = {
        "scheduler": fact.text("scheduler"),
        "line": fact.where or "?",
        "made": int(fact.number("made")),
        "calls": int(fact.number("calls")),
    }
    return Misfit(
        2,
        "warning",
        say(
            "the schedule begins anew again and again: {made} objects of {scheduler} have set the "
            "rate of one optimizer, each for about {calls} calls (at {line})",
            **values,
        ),
        say("make the scheduler once, before the loop over the epochs, for the whole training"),
        fact.number("made"),
        3.0,
    )


def _not_loaded(fact: Fact) -> Misfit:
    initial, loaded = fact.number("initial"), fact.number("loaded")
    return Misfit(
        3,
        "warning",
        say(
            "the state of the optimizer was loaded at {line}, but not that of its scheduler: "
            "{scheduler} starts from its first step, although the schedule had already gone from "
            "a learning rate of {initial:g} to {loaded:g}",
            line=fact.where or "?",
            scheduler=fact.text("scheduler"),
            initial=initial,
            loaded=loaded,
        ),
        say("save scheduler.state_dict() in the checkpoint as well, and load both"),
        loaded,
        initial,
    )
