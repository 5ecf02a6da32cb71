"""SG109 zero-gradient."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import BoolArray, as_list, integers, numbers, site_of, updates
from seismograd.analysis.script_names import optimizer_name
from seismograd.analysis.zero_gradient_advice import AT_ZERO_LOSS, HEALTHY, words
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
    StepFlag,
    ZeroCause,
)


@dataclass(slots=True)
class Streak:
    """Steps of one optimizer, up to the last one, whose gradients were all zero. `found`: it is
    known what to say of it.
    """

    num: int = 0
    since: int = -1
    last: int = -1
    num_steps: int = 0  # of the optimizer in all
    has_moved: bool = False  # there was a gradient before
    has_loss: bool = False  # the loss was not zero throughout
    found: bool = False
    names: tuple[str, ...] = ()
    where: str = ""
    optimizer: str = "optimizer"
    is_half: bool = False  # computed in float16, where small gradients become zero


@final
@dataclass
class ZeroGradient(Rule):
    """Every gradient of an optimizer is exactly zero, or every one in front of an operation that
    lets none through: nothing moves.

    What it finds
        A softmax over one element, both factors of a low-rank adapter zero, the ratio of two
        log-probabilities that both have a graph, labels that are all masked, a last ReLU that only
        gets negative numbers, weights of zeros, a loss multiplied by zero, advantages that are all
        zero. And a rounding or a sign in the middle of a network, which stops the gradient of all
        layers in front of it.

    Why it hurts
        The steps are made, the loss is logged, and no weight changes, except by weight decay. An
        optimizer with moments goes on for a while with what it remembers, which hides it.

    How it decides
        All gradients of an optimizer that are there are exactly zero in {in_a_row} steps in a row,
        from its first step on (a run that ends before counts with {min_evaluated} steps), or in
        {later} in a row after steps that had some. Steps without a backward, and those that a
        GradScaler left out, do not count. The cause is read from the graph of the backward that
        follows such a step: the operations that pass nothing on, whatever comes to them. Of a
        rounding it is enough that the gradients before it are zero in {in_a_row} steps in a row.

    False alarms
        A loss that is exactly zero because all margins are kept, or the target is met, is at its
        goal and does not count. Nor do gradients in float16 whose graph shows no cause: they
        underflow, which is another finding. One factor of a low-rank adapter begins at zero, which
        the first step mends.

    What to try
        - Print the loss and what it is made of: one that never changes has no connection with the
          weights.
        - `loss.grad_fn` and its `next_functions` show the operations, last one first.
        - Begin with random weights; detach what is meant as a constant, and only that.

    References
        - Hu et al. (2021), LoRA: low-rank adaptation of large language models.
        - Bengio, Léonard, Courville (2013), Estimating or propagating gradients through stochastic
          neurons.
    """

    code: ClassVar[str] = "SG109"
    name: ClassVar[str] = "zero-gradient"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ("grad_norm",)
    absorbs: ClassVar[tuple[str, ...]] = (
        "SG101",
        "SG104",
        "SG106",
        "SG107",
        "SG108",
        "SG402",
        "SG403",
    )

    in_a_row: int = 8  # steps
    later: int = 50  # steps, after others that had gradients
    min_evaluated: int = 3  # steps

    _streaks: dict[int, Streak] = field(default_factory=dict[int, Streak], init=False, repr=False)
    _facts: dict[int, list[Fact]] = field(
        default_factory=dict[int, "list[Fact]"], init=False, repr=False
    )
    # behind a rounding
    _behind: dict[int, Streak] = field(default_factory=dict[int, Streak], init=False, repr=False)
    _findings: dict[int, Finding] = field(
        default_factory=dict[int, Finding], init=False, repr=False
    )

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        if not len(block):
            return []
        news: dict[int, Finding] = {}
        owners = np.array(
            [-1 if each.optimizer is None else each.optimizer for each in block.parameters],
            np.int64,
        )
        for optimizer in sorted(set(owners.tolist()) - {-1}):
            columns = np.flatnonzero(owners == optimizer)
            for finding in self._read(block, optimizer, columns):
                news[optimizer] = finding
        return list(news.values())

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
                yield from self._judge(optimizer, streak, streak.last + 1)

    def shortfall(self) -> Message | None:
        has = max((streak.num_steps for streak in self._streaks.values()), default=0)
        return (
            None
            if has >= self.min_evaluated
            else say("needs {needed} steps, has {has}", needed=self.min_evaluated, has=has)
        )

    def _read(self, block: RowBatch, optimizer: int, columns: IntArray) -> Iterator[Finding]:
        state = block.state[:, columns]
        zero = (state == State.ZERO).any(axis=1)
        other = ((state == State.FINITE) | (state == State.NONFINITE)).any(axis=1)
        counts = updates(block) & (zero | other)
        streak = self._streaks.setdefault(optimizer, Streak())
        for fact in self._facts.get(optimizer, ()):
            if fact.text("cause") == ZeroCause.ROUNDING and optimizer not in self._behind:
                self._behind[optimizer] = Streak(since=fact.iteration, names=fact.parameters)
        if optimizer in self._behind and optimizer not in self._findings:
            yield from self._look_behind(block, optimizer, self._behind[optimizer], counts & other)
        if not (zero & ~other & counts).any():  # what there is in any healthy training
            num = int(np.count_nonzero(counts))
            streak.num_steps += num
            if num:
                streak.num, streak.found, streak.has_moved = 0, False, True
            return
        for row in as_list(np.flatnonzero(counts)):
            streak.num_steps += 1
            if other[row]:
                streak.num, streak.found, streak.has_moved = 0, False, True
                continue
            yield from self._add(block, optimizer, streak, row, columns[state[row] == State.ZERO])

    def _add(
        self, block: RowBatch, optimizer: int, streak: Streak, row: int, columns: IntArray
    ) -> Iterator[Finding]:
        """Another step with nothing but zeros."""
        iteration = int(integers(block.steps, "iteration")[row])
        loss, flags = (
            float(numbers(block.steps, "loss")[row]),
            int(integers(block.steps, "flags")[row]),
        )
        if streak.num == 0:
            streak.since, streak.has_loss = iteration, False
            streak.names = tuple(block.parameters[column].name for column in as_list(columns))
            streak.where = site_of(block, EventKind.STEP, iteration, optimizer)
            streak.optimizer = optimizer_name(block, optimizer)
        streak.num, streak.last = streak.num + 1, iteration
        # the first graph need not have shown what it is computed in
        own = (block.parameters[column] for column in as_list(columns))
        streak.is_half = any("float16" in (each.dtype, each.compute_dtype) for each in own)
        streak.has_loss |= loss != 0 or bool(flags & StepFlag.NO_LOSS)
        if streak.found and optimizer in self._findings:
            self._findings[optimizer] = replace(self._findings[optimizer], last_step=iteration)
            yield self._findings[optimizer]
        elif streak.num == (self.later if streak.has_moved else self.in_a_row):
            yield from self._judge(optimizer, streak, iteration)

    def _judge(self, optimizer: int, streak: Streak, until: int) -> Iterator[Finding]:
        """It has lasted long enough; what was learnt of it up to this iteration says why."""
        facts = [
            each
            for each in self._facts.get(optimizer, ())
            if streak.since <= each.iteration <= until
        ]
        fact = facts[0] if facts else None
        cause = "" if fact is None else fact.text("cause")
        if (
            optimizer in self._findings
            or cause in HEALTHY
            or (not cause and streak.is_half)
            or (cause in AT_ZERO_LOSS and not streak.has_loss)
        ):
            return
        streak.found = True
        severity = "warning" if streak.has_moved else self.severity
        yield self._found(optimizer, streak, fact, severity)

    def _look_behind(
        self, block: RowBatch, optimizer: int, behind: Streak, counts: BoolArray
    ) -> Iterator[Finding]:
        """Whether the parameters behind a rounding get nothing but zeros, though others get
        more.
        """
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
                yield self._found(optimizer, behind, fact, self.severity)
                return

    def _found(self, optimizer: int, streak: Streak, fact: Fact | None, severity: str) -> Finding:
        names = streak.names
        num = len(names) if fact is None else max(len(names), int(fact.number("num")))
        cause, advice, excerpt = words(
            fact, {"optimizer": streak.optimizer, "num": num, "since": streak.since}
        )
        is_behind = streak is self._behind.get(optimizer)
        finding = self._findings[optimizer] = Finding(
            code=self.code,
            name=self.name,
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
        return finding
