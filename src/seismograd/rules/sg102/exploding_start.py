"""Detect a first update or a first loss that is already beyond bounds."""

from __future__ import annotations

import math

import numpy as np

from seismograd.analysis.block_rows import (
    BoolArray,
    as_list,
    largest_parameters,
    numbers,
    weight_norms,
)
from seismograd.analysis.chance_level import chance_loss, plain_loss
from seismograd.i18n import say
from seismograd.rules.sg102.explosion import (
    Explosion,
    ExplosionLimits,
    ExplosionTrack,
    OptimizerRows,
    initialise,
)
from seismograd.schema import Evidence, RowBatch, State

PLAIN = ("SGD",)  # optimizers whose update is the learning rate times the gradient


def from_the_start(track: ExplosionTrack, look: OptimizerRows) -> Explosion | None:
    """Detect that a first update would be larger than the weights, or that the first loss is far
    beyond that of a guess.
    """
    limits, block = look.limits, look.block
    for position in range(min(max(limits.first_steps - track.num_rows, 0), len(look.rows))):
        row, norm = int(look.rows[position]), float(look.norm[position])
        measured = block.state[row] >= State.ZERO
        sampled = weight_norms(block, row)
        if sampled is not None:
            track.weight_norm = math.hypot(*sampled[measured & np.isfinite(sampled)])
        lr, applied = (
            float(numbers(block.steps, "lr")[row]),
            float(numbers(block.steps, "applied_norm")[row]),
        )
        if not math.isfinite(applied):  # not measured, or cut by a clip
            applied = norm if math.isnan(numbers(block.steps, "clip_limit")[row]) else 0.0
        if track.num_rows + position == 0:
            track.first_loss, track.first_step = plain_loss(block, row), int(look.steps[position])
        times = track.first_loss / chance_loss(block.parameters)
        if times >= limits.min_first_loss:
            return _beyond_guessing(look, position, track, times)
        largest = limits.min_update * track.weight_norm
        if norm >= limits.min_norm and lr * applied >= largest > 0 and _all_plain(block, measured):
            return _torn_apart(look, position, lr, lr * applied, largest)
    return None


def _beyond_guessing(
    look: OptimizerRows, position: int, track: ExplosionTrack, times: float
) -> Explosion:
    step, limits = track.first_step, look.limits
    evidence = (
        Evidence(
            "loss", "", step, track.first_loss, track.first_loss / times * limits.min_first_loss
        ),
    )
    cause = say(
        "before the first update the loss is {loss:.3g}, {times:.2g} times that of a random guess: "
        "the signal grows from layer to layer in the forward pass, and the gradient grows with it",
        loss=track.first_loss,
        times=times,
    )
    parameters = largest_parameters(look.block, int(look.rows[position]))
    return Explosion(
        position,
        step,
        parameters,
        evidence,
        cause,
        initialise(),
        math.inf,
        least_total=_least(limits),
    )


def _torn_apart(
    look: OptimizerRows, position: int, lr: float, update: float, largest: float
) -> Explosion:
    step, norm = int(look.steps[position]), float(look.norm[position])
    limit = max(look.limits.min_norm, largest / lr)
    evidence = (
        Evidence("grad_norm", "", step, norm, limit),
        Evidence("update_norm", "", step, update, largest),
    )
    cause = say(
        "the gradient norm is {norm:.2g} at step {step}: with a learning rate of {lr:.2g}, this "
        "update is {times:.2g} times as large as all weights together",
        norm=norm,
        step=step,
        lr=lr,
        times=update / largest * look.limits.min_update,
    )
    parameters = largest_parameters(look.block, int(look.rows[position]))
    return Explosion(
        position,
        step,
        parameters,
        evidence,
        cause,
        initialise(),
        limit,
        least_total=_least(look.limits),
    )


def _least(limits: ExplosionLimits) -> float:
    """Return by how much the layers multiply the signal at least if it is they that do it."""
    return math.sqrt(limits.min_total_signal_gain)


def _all_plain(block: RowBatch, measured: BoolArray) -> bool:
    """Return whether everything updated in this row is updated by the learning rate times the
    gradient.
    """
    kinds: dict[int | None, str] = {each.index: each.kind for each in block.optimizers}
    owners = {block.parameters[column].optimizer for column in as_list(np.flatnonzero(measured))}
    return all(kinds.get(owner) in PLAIN for owner in owners if owner is not None)
