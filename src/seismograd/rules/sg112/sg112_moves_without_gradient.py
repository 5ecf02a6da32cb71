"""SG112 moves-without-gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from seismograd.analysis.block_rows import as_list, iteration_at, names_at, site_of, statistic
from seismograd.analysis.shared_block import SharedBlock
from seismograd.analysis.zero_streaks import ZeroStreaks, used_as_zero
from seismograd.diagnosis.rule import per_optimizer
from seismograd.diagnosis.settings_rule import SettingsRule
from seismograd.i18n import say
from seismograd.rules.sg112.zero_eps import weights_with_zero_eps, zero_eps_finding
from seismograd.schema import EventKind, Evidence, IntArray, RowBatch


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

    def judge(self, block: SharedBlock, optimizer: int, rows: IntArray, columns: IntArray) -> None:
        step = iteration_at(block, int(rows[0]))
        if optimizer not in self.found and (
            half := weights_with_zero_eps(block, step, columns, self.settings)
        ):
            self.found.add(zero_eps_finding(self, half, optimizer, step))
        zero, streaks = used_as_zero(block, rows, columns), self._streaks[optimizer]
        if not zero.any() and not streaks.by_name:
            streaks.num_steps += len(rows)
            return
        updates = statistic(block, "update_ratio")[np.ix_(rows, columns)]
        for number, row in enumerate(as_list(rows)):
            names = names_at(block, columns[zero[number]])
            moved = dict(zip(names, updates[number, zero[number]].tolist(), strict=True))
            streaks.add(iteration_at(block, row), moved)
            if moved:
                self._judge_decay(block, streaks, optimizer, iteration_at(block, row))

    def _judge_decay(
        self, block: RowBatch, streaks: ZeroStreaks, optimizer: int, step: int
    ) -> None:
        """Judge whether any of those that are at zero now have moved for long enough."""
        moved = streaks.moving(self.min_steps, self.min_moves, self.min_share, self.max_ended)
        decays = {
            each.name: fact.number("weight_decay")
            for each in block.parameters
            if each.name in moved
            and (fact := self.settings.at(step, each)) is not None
            and fact.number("weight_decay") > 0
        }
        known = self.found.get(optimizer)
        if not decays:
            return
        if known is not None and len(decays) <= len(known.parameters):
            self.found.extend(step, optimizer)
            return
        (name, decay), num = next(iter(decays.items())), len(decays)
        since = min(moved[each].since for each in decays)
        values = {"parameter": name, "num": num, "since": since, "decay": decay}
        finding = self.finding(
            optimizer=optimizer,
            first_step=since if known is None else known.first_step,
            last_step=step,
            parameters=tuple(decays),
            evidence=(Evidence("update_ratio", name, step, moved[name].last, 0.0),),
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
            where=site_of(block, EventKind.STEP, step, optimizer),
            seen_only=True,
            excerpt="for p in frozen:\n    p.requires_grad_(False)",
        )
        self.found.add(finding)
