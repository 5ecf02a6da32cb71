"""A network whose outputs hardly depend on its weights: seen at the first step, whatever the
layers get of the gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seismograd.analysis.block_rows import site_of
from seismograd.analysis.chance_level import chance_loss, leverage, plain_loss
from seismograd.analysis.depth_profile import layers_of
from seismograd.i18n import say
from seismograd.schema import EventKind, Evidence, Finding, RowBatch

if TYPE_CHECKING:
    from seismograd.rules.sg101.sg101_vanishing_gradient import VanishingGradient


@dataclass(slots=True)
class InsensitiveOutputs:
    """The first steps of an optimizer: whether the outputs of a classifier hardly depend on its
    weights, and its loss stays a guess.
    """

    leverage: float = math.nan
    first_step: int = -1
    num: int = 0  # steps
    lowest: float = math.inf  # loss
    highest: float = -math.inf

    def add(self, block: RowBatch, row: int) -> None:
        """Take in one more step."""
        if self.num == 0:
            self.leverage, self.first_step = (
                leverage(block, row),
                int(block.steps["iteration"][row]),
            )
        loss = plain_loss(block, row)
        self.num += 1
        self.lowest, self.highest = min(self.lowest, loss), max(self.highest, loss)
        if math.isnan(loss):
            self.leverage = math.nan

    def is_guess(self, guess: float, distance: float) -> bool:
        """Whether all losses were so near to that of a guess; `distance` is a share of it."""
        return (
            abs(self.lowest / guess - 1) <= distance and abs(self.highest / guess - 1) <= distance
        )


def insensitivity_finding(
    rule: VanishingGradient, flat: InsensitiveOutputs, block: RowBatch, row: int, optimizer: int
) -> Finding:
    """What is to be said of a network through which nothing comes, at the last of its first
    steps.
    """
    step, loss = int(block.steps["iteration"][row]), float(block.steps["loss"][row])
    return Finding(
        code=rule.code,
        name=rule.name,
        severity=rule.severity,
        optimizer=optimizer,
        first_step=flat.first_step,
        last_step=step,
        parameters=layers_of(block.parameters).names,
        evidence=(
            Evidence("leverage", "", flat.first_step, flat.leverage, rule.max_leverage),
            Evidence("loss", "", step, loss, chance_loss(block.parameters)),
        ),
        cause=say(
            "the weights are so small that the outputs do not depend on the input: a change of a "
            "weight by its own size would change "
            "the loss by {leverage:.1g} of itself, and by step {step} it is still that of a mere "
            "guess, {loss:.3g}",
            leverage=flat.leverage,
            step=step,
            loss=loss,
        ),
        advice=say(
            "initialise the weights for their activation: nn.init.kaiming_normal_ for ReLU, "
            "nn.init.xavier_normal_ for tanh"
        ),
        where=site_of(block, EventKind.STEP, step, optimizer),
        excerpt='nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")',
    )
