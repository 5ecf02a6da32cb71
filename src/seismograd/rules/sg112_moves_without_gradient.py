"""SG112 moves-without-gradient."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import BoolArray, as_list, site_of, statistic
from seismograd.analysis.shared_block import SharedBlock
from seismograd.analysis.zero_streaks import ZeroStreaks
from seismograd.diagnosis.settings_rule import SettingsRule
from seismograd.i18n import say
from seismograd.schema import EventKind, Evidence, IntArray, RowBatch, State


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
        Pretrained weights shrink towards zero unnoticed, while the log says that they have no
        gradient. With an eps of zero, a zero gradient gives 0/0, which is NaN, and the smallest
        gradient gives a step as large as any other.

    How it decides
        The gradient that the optimizer used is exactly zero for a parameter, but not for all of
        them, in {min_steps} steps in a row and in at least {min_share:.0%} of its steps; its
        parameter group has a weight decay; and at least {min_moves} measurements during these steps
        show that it moved. For eps: the value in the group rounds to zero in half precision, which
        the weights have, and the optimizer is not a fused one, which computes in single precision.

    False alarms
        Parts of a model that are seldom used, such as an expert that no token is routed to, decay
        along with the rest, which may be intended.

    What to try
        - Freeze parameters with `requires_grad_(False)`, or leave them out of the optimizer.
        - Set the gradient to None instead of zero: optimizers skip such parameters.
        - Keep the weights in float32 and compute in float16 under autocast; otherwise set
          `eps=1e-4`.

    References
        - PyTorch documentation, torch.optim.Optimizer.zero_grad: gradients of None and of zero.
        - Micikevicius et al. (2018), Mixed precision training.
    """

    code: ClassVar[str] = "SG112"
    name: ClassVar[str] = "moves-without-gradient"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ("update_ratio",)
    absorbs: ClassVar[tuple[str, ...]] = ("SG201", "SG202")

    min_steps: int = 30
    min_share: float = 0.5
    min_moves: int = 2

    _streaks: dict[int, ZeroStreaks] = field(
        default_factory=dict[int, ZeroStreaks], init=False, repr=False
    )

    def judge(self, block: SharedBlock, optimizer: int, rows: IntArray, columns: IntArray) -> None:
        if optimizer not in self.found:
            self._judge_eps(block, int(rows[0]), columns, optimizer)
        zero = _is_zero(block, rows, columns)
        streaks = self._streaks.setdefault(optimizer, ZeroStreaks())
        if not zero.any() and not streaks.by_name:
            streaks.num_steps += len(rows)
            return
        moves = statistic(block, "update_ratio")[np.ix_(rows, columns)]
        for number, row in enumerate(as_list(rows)):
            moved = {
                block.parameters[int(columns[at])].name: float(moves[number, at])
                for at in as_list(np.flatnonzero(zero[number]))
            }
            streaks.add(int(block.steps["iteration"][row]), moved)
            if moved:
                self._judge_decay(block, streaks, optimizer, int(block.steps["iteration"][row]))

    def _judge_decay(
        self, block: RowBatch, streaks: ZeroStreaks, optimizer: int, step: int
    ) -> None:
        """Judge whether any of those that are at zero now have moved for long enough."""
        moved = {
            name: each
            for name, each in streaks.by_name.items()
            if each.in_a_row >= self.min_steps
            and each.moves >= self.min_moves
            and each.num >= self.min_share * streaks.num_steps
        }
        decays = {
            each.name: fact.number("weight_decay")
            for each in block.parameters
            if each.name in moved
            and (fact := self.settings.at(step, each)) is not None
            and fact.number("weight_decay") > 0
        }
        if not decays:
            return
        known = self.found.get(optimizer)
        if known is not None and len(decays) <= len(known.parameters):
            self.found.extend(step, optimizer)
            return
        name, since = next(iter(decays)), min(moved[each].since for each in decays)
        values: dict[str, str | int | float] = {
            "parameter": name,
            "num": len(decays),
            "since": since,
            "decay": decays[name],
        }
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
            if len(decays) == 1
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
            excerpt="for p in frozen:\n    p.requires_grad_(False)",
        )
        self.found.add(finding)

    def _judge_eps(self, block: RowBatch, row: int, columns: IntArray, optimizer: int) -> None:
        """Judge whether what keeps the optimizer from dividing by zero is zero itself."""
        step = int(block.steps["iteration"][row])
        half = [p for p in (block.parameters[c] for c in as_list(columns)) if p.dtype == "float16"]
        without = {
            each.name: fact
            for each in half
            if (fact := self.settings.at(step, each)) is not None
            and fact.number("eps") > 0
            and not fact.number("fused")
            and np.float16(fact.number("eps")) == 0
        }
        if not without:
            return
        name, fact = next(iter(without.items()))
        kind, eps = fact.text("class_name"), fact.number("eps")
        finding = self.finding(
            severity="error",
            optimizer=optimizer,
            first_step=fact.iteration,
            last_step=step,
            parameters=tuple(without),
            evidence=(Evidence("eps", name, fact.iteration, 0.0, eps),),
            cause=say(
                "{kind} has eps={eps:g}, which rounds to 0 in float16, the dtype of {parameter}: a "
                "zero gradient gives 0/0, which is NaN, and the smallest gradient gives a step as "
                "large as any other",
                kind=kind,
                eps=eps,
                parameter=name,
            ),
            advice=say(
                "keep the weights in float32 and compute in float16 under autocast; otherwise set "
                "eps=1e-4"
            ),
            where=fact.where,
            excerpt=f"torch.optim.{kind}(model.float().parameters(), lr=lr)",
        )
        self.found.add(finding)


def _is_zero(block: RowBatch, rows: IntArray, columns: IntArray) -> BoolArray:
    """Return where the gradient that the optimizer used is zero, in rows in which another is not
    # (rows, columns).
    """
    state = block.state[np.ix_(rows, columns)]
    finite, zero = state == State.FINITE, state == State.ZERO
    if "applied_norm" in block.values:
        zero |= finite & (statistic(block, "applied_norm")[np.ix_(rows, columns)] == 0)
    return zero & (finite & ~zero).any(axis=1)[:, None]
