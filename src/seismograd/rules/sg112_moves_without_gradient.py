"""SG112 moves-without-gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import as_list, by_optimizer, site_of, statistic, updates
from seismograd.analysis.known_settings import KnownSettings
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
)


@final
@dataclass
class MovesWithoutGradient(Rule):
    """Parameters whose gradient is zero are changed all the same, by weight decay; or an optimizer
    divides by an eps that is zero.

    What it finds
        Parameters that were to stay as they are, and were frozen by setting their gradient to zero:
        the optimizer still decays them. And Adam and its kin on float16 weights with an eps that
        float16 cannot hold.

    Why it hurts
        Pretrained weights shrink towards zero without a word, while the log says that they get no
        gradient. With an eps of zero a gradient of zero gives zero over zero, which is NaN, and the
        smallest gradient a step as long as any.

    How it decides
        The gradient that the optimizer was given is exactly zero for a parameter, and not for all
        of them, in {min_steps} steps in a row and in at least {min_share:.0%} of its steps; its
        group has a weight decay; and {min_moves} of the probes of these steps found it moved. The
        eps: what the group has is zero in half precision, which is what its weights are kept in,
        and the step is not a fused one, which computes in single precision.

    False alarms
        A part of a model that is seldom used, such as an expert that nothing is sent to: it decays
        as the others do, which may be meant.

    What to try
        - Freeze with `requires_grad_(False)`, or leave the parameters out of the optimizer.
        - Set the gradient to None in place of zero: optimizers pass over such parameters.
        - Keep weights in float32 and compute in float16 under autocast; else set `eps=1e-4`.

    References
        - PyTorch documentation, torch.optim.Optimizer.zero_grad: gradients of None and of zero.
        - Micikevicius and others (2018), Mixed precision training.
    """

    code: ClassVar[str] = "SG112"
    name: ClassVar[str] = "moves-without-gradient"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ("update_ratio",)
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.GROUP_SETTINGS,)
    absorbs: ClassVar[tuple[str, ...]] = ("SG201", "SG202")

    min_steps: int = 30
    min_share: float = 0.5
    min_moves: int = 2
    min_evaluated: int = 5  # steps

    _settings: KnownSettings = field(default_factory=KnownSettings, init=False, repr=False)
    _num_steps: int = field(default=0, init=False, repr=False)
    _tracks: dict[int, _ZeroTrack] = field(
        default_factory=dict[int, "_ZeroTrack"], init=False, repr=False
    )
    _findings: dict[int, Finding] = field(
        default_factory=dict[int, Finding], init=False, repr=False
    )

    def learn(self, fact: Fact) -> Iterable[Finding]:
        self._settings.learn(fact)
        return ()

    def observe(self, block: RowBatch) -> Iterator[Finding]:
        for optimizer, rows in by_optimizer(block, updates(block)):
            columns = np.array(
                [c for c, each in enumerate(block.parameters) if each.optimizer == optimizer],
                np.int64,
            )
            self._num_steps += len(rows)
            if not len(columns):
                continue
            yield from self._without_eps(block, int(rows[0]), columns, optimizer)
            state = block.state[np.ix_(rows, columns)]
            zero = state == State.ZERO
            if "applied_norm" in block.values:
                applied = statistic(block, "applied_norm")[np.ix_(rows, columns)]
                zero |= (state == State.FINITE) & (applied == 0)
            zero &= ((state == State.FINITE) & ~zero).any(axis=1)[:, None]
            track = self._tracks.setdefault(optimizer, _ZeroTrack())
            if not zero.any() and not track.streaks:
                track.num_steps += len(rows)
                continue
            moves = statistic(block, "update_ratio")[np.ix_(rows, columns)]
            for number, row in enumerate(as_list(rows)):
                track.num_steps += 1
                step = int(block.steps["iteration"][row])
                for position in as_list(np.flatnonzero(zero[number])):
                    parameter = block.parameters[int(columns[position])]
                    track.add(parameter.name, step, float(moves[number, position]))
                found = track.interrupted(
                    {block.parameters[int(columns[p])].name for p in np.flatnonzero(zero[number])}
                )
                if found:
                    yield from self._judge(block, track, optimizer, step)

    def _judge(
        self, block: RowBatch, track: _ZeroTrack, optimizer: int, step: int
    ) -> Iterator[Finding]:
        """Whether any of those that are at zero now have moved for long enough."""
        moved = {
            name: each
            for name, each in track.streaks.items()
            if each.in_a_row >= self.min_steps
            and each.moves >= self.min_moves
            and each.num >= self.min_share * track.num_steps
        }
        known = {
            each.name: fact
            for each in block.parameters
            if each.name in moved
            and (fact := self._settings.at(step, each)) is not None
            and fact.number("weight_decay") > 0
        }
        if not known:
            return
        finding = self._findings.get(optimizer)
        if finding is not None and len(known) <= len(finding.parameters):
            finding = replace(finding, last_step=step)
        else:
            first = min(moved[name].since for name in known)
            name = next(iter(known))
            values: dict[str, str | int | float] = {
                "parameter": name,
                "num": len(known),
                "since": first,
                "decay": known[name].number("weight_decay"),
            }
            finding = Finding(
                code=self.code,
                name=self.name,
                severity=self.severity,
                optimizer=optimizer,
                first_step=first if finding is None else finding.first_step,
                last_step=step,
                parameters=tuple(known),
                evidence=(Evidence("update_ratio", name, step, moved[name].last, 0.0),),
                cause=say(
                    "the gradient of {parameter} is zero since step {since}, and it moves all the "
                    "same: weight_decay={decay:g} makes it smaller in each step",
                    **values,
                )
                if len(known) == 1
                else say(
                    "the gradients of {num} parameters ({parameter}, …) are zero since step "
                    "{since}, and they move all the same: weight_decay={decay:g} makes them "
                    "smaller in each step",
                    **values,
                ),
                advice=say(
                    "freeze with requires_grad_(False), or set the gradient to None in place of "
                    "zero: the optimizer then leaves the parameter as it is"
                ),
                where=site_of(block, EventKind.STEP, step, optimizer),
                excerpt="for p in frozen:\n    p.requires_grad_(False)",
            )
        self._findings[optimizer] = finding
        yield finding

    def _without_eps(
        self, block: RowBatch, row: int, columns: IntArray, optimizer: int
    ) -> Iterator[Finding]:
        """Whether what keeps it from dividing by zero is zero itself."""
        if optimizer in self._findings:
            return
        step = int(block.steps["iteration"][row])
        half = [block.parameters[c] for c in as_list(columns)]
        half = [each for each in half if each.dtype == "float16"]
        told = {each.name: self._settings.at(step, each) for each in half}
        names = [
            name
            for name, fact in told.items()
            if fact is not None and fact.number("eps") > 0 and not fact.number("fused")
            if np.float16(fact.number("eps")) == 0
        ]
        fact = told[names[0]] if names else None
        if fact is None:
            return
        values: dict[str, str | int | float] = {
            "kind": fact.text("class_name"),
            "eps": fact.number("eps"),
            "parameter": names[0],
        }
        self._findings[optimizer] = Finding(
            code=self.code,
            name=self.name,
            severity="error",
            optimizer=optimizer,
            first_step=fact.iteration,
            last_step=step,
            parameters=tuple(names),
            evidence=(Evidence("eps", names[0], fact.iteration, 0.0, fact.number("eps")),),
            cause=say(
                "{kind} has eps={eps:g}, which is 0 in float16, and {parameter} is float16: where "
                "a gradient is zero it divides zero by zero, and the smallest gradient makes a "
                "step as long as any",
                **values,
            ),
            advice=say(
                "keep the weights in float32 and compute in float16 under autocast; else set "
                "eps=1e-4"
            ),
            where=fact.where,
            excerpt=f"torch.optim.{values['kind']}(model.float().parameters(), lr=lr)",
        )
        yield self._findings[optimizer]

    def shortfall(self) -> Message | None:
        if self._num_steps < self.min_evaluated:
            return say(
                "needs {needed} steps with an update, has {has}",
                needed=self.min_evaluated,
                has=self._num_steps,
            )
        return None


@dataclass(slots=True)
class _Streak:
    """The steps in which the gradient of a parameter was zero."""

    since: int
    num: int = 0
    in_a_row: int = 0
    moves: int = 0
    last: float = math.nan  # update ratio


@dataclass(slots=True)
class _ZeroTrack:
    """The state of one optimizer."""

    num_steps: int = 0
    streaks: dict[str, _Streak] = field(default_factory=dict[str, _Streak])

    def add(self, name: str, step: int, moved: float) -> None:
        """The gradient of this parameter was zero in a step."""
        streak = self.streaks.setdefault(name, _Streak(step))
        if streak.in_a_row == 0:
            streak.since, streak.moves = step, 0
        streak.num, streak.in_a_row = streak.num + 1, streak.in_a_row + 1
        if moved > 0:
            streak.moves, streak.last = streak.moves + 1, moved

    def interrupted(self, zero: set[str]) -> bool:
        """End the streaks of all others; whether any goes on."""
        for name, streak in self.streaks.items():
            if name not in zero:
                streak.in_a_row = 0
        return bool(zero)
