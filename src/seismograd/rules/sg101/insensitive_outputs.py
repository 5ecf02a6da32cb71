"""Detect a network whose outputs hardly depend on its weights: at the first step, whatever the
gradients of its layers are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from seismograd.analysis.block_rows import as_list, iteration_at, site_of
from seismograd.analysis.chance_level import chance_loss, leverage, plain_loss
from seismograd.analysis.profile_layers import layers_of
from seismograd.analysis.sampled_splits import SampledSplits
from seismograd.analysis.signal_split import SignalSplit
from seismograd.analysis.split_words import advice_of, cause_of, excerpt_of, signal_evidence
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import EventKind, Evidence, Finding, IntArray, RowBatch

_GENERAL = say(
    "initialise the weights for their activation (nn.init.kaiming_normal_ for ReLU, "
    "nn.init.xavier_normal_ for tanh)"
)
_EXCERPT = 'nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")'


class FlatLimits(Protocol):
    """The thresholds of `VanishingGradient` that are needed here."""

    max_gain: float
    max_leverage: float


@dataclass(slots=True)
class InsensitiveOutputs:
    """The first steps of an optimizer: whether the outputs of a classifier hardly depend on its
    weights, and its loss stays that of a guess.
    """

    leverage: float = math.nan
    first_step: int = -1
    num: int = 0  # steps
    lowest: float = math.inf  # loss
    highest: float = -math.inf
    is_insensitive: bool = False

    def read(self, block: RowBatch, rows: IntArray, num: int) -> int | None:
        """Read more steps, up to this number; return the row in which it was reached."""
        for row in as_list(rows[: max(num - self.num, 0)]):
            if self.num == 0:
                self.leverage, self.first_step = leverage(block, row), iteration_at(block, row)
            loss = plain_loss(block, row)
            self.num += 1
            self.lowest, self.highest = min(self.lowest, loss), max(self.highest, loss)
            if math.isnan(loss):
                self.leverage = math.nan
            if self.num == num:
                return row
        return None

    def judge(self, block: RowBatch, max_leverage: float, distance: float) -> bool:
        """Return whether the weights have no more leverage than this, and all losses were this
        close to that of a guess; `distance` is a share of it.
        """
        guess = chance_loss(block.parameters)
        is_guess = all(abs(each / guess - 1) <= distance for each in (self.lowest, self.highest))
        self.is_insensitive = is_guess and self.leverage <= max_leverage
        return self.is_insensitive


def insensitivity_finding(
    rule: Rule,
    limits: FlatLimits,
    flat: InsensitiveOutputs,
    block: RowBatch,
    row: int,
    optimizer: int,
    splits: SampledSplits,
) -> Finding:
    """Return the finding about a network that passes no signal on, at the last of its first
    steps.
    """
    step, loss = iteration_at(block, row), float(block.steps["loss"][row])
    names, least = layers_of(block.parameters).names, math.sqrt(limits.max_leverage)
    split = splits.before(
        step + 1, lambda chain: chain.leads_past(names) and chain.split.total <= least
    )
    return rule.finding(
        optimizer=optimizer,
        first_step=flat.first_step,
        last_step=step,
        parameters=names,
        evidence=(
            Evidence("leverage", "", flat.first_step, flat.leverage, limits.max_leverage),
            Evidence("loss", "", step, loss, chance_loss(block.parameters)),
            *signal_evidence(split, limits.max_gain),
        ),
        cause=_cause(flat, step, loss, split),
        advice=_GENERAL if split is None else advice_of(split),
        where=site_of(block, EventKind.STEP, step, optimizer),
        seen_only=True,
        excerpt=_EXCERPT if split is None else excerpt_of(split),
    )


def _cause(flat: InsensitiveOutputs, step: int, loss: float, split: SignalSplit | None) -> Message:
    values: dict[str, str | int | float | Message] = {
        "leverage": flat.leverage,
        "step": step,
        "loss": loss,
    }
    if split is None:
        return say(
            "the weights are so small that the outputs do not depend on the input: changing a "
            "weight by its own size would change the loss by only {leverage:.1g} of its value, and "
            "at step {step} the loss is still that of a random guess, {loss:.3g}",
            **values,
        )
    return say(
        "the outputs do not depend on the input, and at step {step} the loss is still that of a "
        "random guess, {loss:.3g}: {split}",
        split=cause_of(split),
        **values,
    )
