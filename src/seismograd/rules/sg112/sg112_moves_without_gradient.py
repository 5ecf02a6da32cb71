"""SG112 moves-without-gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from seismograd.analysis.block_rows import as_list, integers, iteration_at, names_at, site_of
from seismograd.analysis.shared_block import SharedBlock
from seismograd.analysis.zero_streaks import StreakRows, ZeroStreaks, used_as_zero
from seismograd.diagnosis.rule import per_optimizer
from seismograd.diagnosis.settings_rule import SettingsRule
from seismograd.i18n import say
from seismograd.rules.sg112.zero_eps import weights_with_zero_eps, zero_eps_finding
from seismograd.schema import EventKind, Evidence, Finding, IntArray, RowBatch


@dataclass(frozen=True, slots=True)
class _Shrinking:
    """What weight decay moves at a step: the parameters, since when their gradients are zero, and
    how far the first of them moved, under which decay.
    """

    names: tuple[str, ...]
    step: int
    since: int
    last: float
    decay: float


@final
@dataclass
class MovesWithoutGradient(SettingsRule):
    """Parameters with a zero gradient still change because of weight decay, or the optimizer's eps
    is zero in float16.

    What it finds
        Parameters that were meant to be frozen by setting their gradient to zero, but that weight
        decay still shrinks. Also Adam and related optimizers on float16 weights with an eps that
        rounds to zero in float16.

    Why it hurts
        Pretrained weights shrink towards zero unnoticed. With an eps of zero, a zero gradient gives
        0/0, which is NaN, and the smallest gradient gives a step as large as any other.

    How it decides
        The gradient that the optimizer used is exactly zero for a parameter, but not for all of
        them, in {min_steps} steps in a row and in at least {min_share:.0%} of its steps; its
        parameter group has a weight decay; and at least {min_moves} measurements during these steps
        show that it moved. One whose gradient was zero for a while and came back more than
        {max_ended:g} times, as that of an expert to which no token was routed, does not count. For
        eps: the value in the group rounds to zero in half precision, which the weights have, and
        the optimizer is not a fused one, which computes in single precision.

    False alarms
        Parts of a model that are never used, such as an expert that no token is routed to from the
        first step on, decay along with the rest, which may be intended.

    What to try
        - Freeze parameters with `requires_grad_(False)`, or leave them out of the optimizer.
        - Keep the weights in float32 and compute in float16 under autocast; otherwise set
          `eps=1e-4`.

    References
        - PyTorch documentation, torch.optim.Optimizer.zero_grad: gradients of None and of zero.
    """

    code = "SG112"
    name = "moves-without-gradient"
    severity = "warning"
    needs = ("update_ratio",)
    absorbs = ("SG201", "SG202")

    min_steps: int = 30
    min_share: float = 0.5
    min_moves: int = 2
    max_ended: int = 1  # streaks of zeros before

    _streaks: dict[int, ZeroStreaks] = per_optimizer(ZeroStreaks)

    def judge(self, block: SharedBlock, optimizer: int, rows: IntArray) -> None:
        step = iteration_at(block, int(rows[0]))
        if optimizer not in self.found and (
            half := weights_with_zero_eps(block, step, optimizer, self.settings)
        ):
            self.found.add(zero_eps_finding(self, half, optimizer, step))
        columns = block.columns_of[optimizer]
        zero = used_as_zero(block, rows, columns)
        seen = self._streaks[optimizer].read(block, rows, columns, zero)
        if seen is not None:
            self._judge_decay(block, optimizer, rows, seen)

    def _judge_decay(
        self, block: RowBatch, optimizer: int, rows: IntArray, seen: StreakRows
    ) -> None:
        """Judge whether any of those that are at zero have moved for long enough."""
        moving = seen.going(self.min_steps, self.min_moves, self.min_share, self.max_ended)
        if not moving.any():
            return
        steps = integers(block.steps, "iteration")[rows]
        decays = self.settings.numbers("weight_decay", steps, block.parameters, seen.columns)
        moving &= decays > 0
        counts = np.count_nonzero(moving, axis=1)
        known = self.found.get(optimizer)
        most = np.maximum.accumulate([0 if known is None else len(known.parameters), *counts])
        for row in as_list(np.flatnonzero(np.diff(most))):
            own = np.flatnonzero(moving[row])
            decay, names = float(decays[row, own[0]]), names_at(block, seen.columns[own])
            since, last = int(seen.since[row, own].min()), float(seen.last(row)[own[0]])
            shrinking = _Shrinking(names, int(steps[row]), since, last, decay)
            self.found.add(self._finding(block, optimizer, shrinking))
        if counts.any():
            self.found.extend(int(steps[counts > 0][-1]), optimizer)

    def _finding(self, block: RowBatch, optimizer: int, seen: _Shrinking) -> Finding:
        known, (name, *_), num = self.found.get(optimizer), seen.names, len(seen.names)
        values = {"parameter": name, "num": num, "since": seen.since, "decay": seen.decay}
        return self.finding(
            optimizer=optimizer,
            first_step=seen.since if known is None else known.first_step,
            last_step=seen.step,
            parameters=seen.names,
            evidence=(Evidence("update_ratio", name, seen.step, seen.last, 0.0),),
            cause=say(
                "the gradient of {parameter} has been zero since step {since}, but the parameter "
                "still changes: weight_decay={decay:g} shrinks it at every step",
                **values,
            )
            if num == 1
            else say(
                "the gradients of {num} parameters ({parameter}, …) have been zero since step "
                "{since}, but the parameters still change: weight_decay={decay:g} shrinks them at "
                "every step",
                **values,
            ),
            advice=say(
                "freeze parameters with requires_grad_(False), or set their gradients to None "
                "instead of zero: the optimizer then skips them"
            ),
            where=site_of(block, EventKind.STEP, seen.step, optimizer),
            seen_only=True,
            excerpt="for p in frozen:\n    p.requires_grad_(False)",
        )
