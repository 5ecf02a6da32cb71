"""Describe updates that are too small or too large: cause and advice."""

from __future__ import annotations

import math

from seismograd.analysis.large_updates import BY_SIGN, LargeUpdateTrack
from seismograd.analysis.small_updates import PLAIN, SmallUpdateTrack
from seismograd.analysis.step_groups import StepGroup
from seismograd.i18n import Message, say

Values = dict[str, str | int | float]

TYPICAL = 1e-3  # of a weight, changed by an update
LEAST = 1e-5  # of a learning rate


def too_small(
    track: SmallUpdateTrack, probe: tuple[str, int, float], first: int, group: int | None
) -> tuple[Message, Message]:
    """Return cause and advice for updates that are too small from this iteration on, in a parameter
    group or in all; `probe` is the largest: its parameter, iteration and ratio.
    """
    parameter, step, ratio = probe
    values: Values = {
        "parameter": parameter,
        "ratio": ratio,
        "step": step,
        "loss": track.last.loss_level,
        "first_loss": track.start.loss,
        "lr": track.last.last_lr,
        "since": first,
        "highest": track.highest_lr,
        "kind": track.last.kind,
        "higher": track.last.last_lr * raising(track),
    }
    if group is not None:
        return _of_a_group({**values, "group": group})
    return _since_some_step(values) if track.has_moved else _since_the_start(values)


def _of_a_group(values: Values) -> tuple[Message, Message]:
    """Return cause and advice for a parameter group that stays behind; a {ratio} of 0 is one that
    does not move.
    """
    if values["ratio"]:
        cause = say(
            "parameter group {group} hardly changes: at step {step} the update of {parameter} is "
            "{ratio:.2g} of its size, thousands of times less than in other groups, although its "
            "gradient is no smaller: the learning rate of this group is zero or far too low",
            **values,
        )
    else:
        cause = say(
            "parameter group {group} does not change at all, although its gradient is no smaller "
            "than that of other groups: its learning rate is zero or far too low",
            **values,
        )
    advice = say(
        "set the intended learning rate for parameter group {group}, or leave its parameters out "
        "of the optimizer",
        **values,
    )
    return cause, advice


def _since_some_step(values: Values) -> tuple[Message, Message]:
    """Return the same for weights that have come to rest."""
    if values["ratio"]:
        cause = say(
            "since step {since} the weights have hardly changed: the learning rate has fallen from "
            "{highest:.2g} to {lr:.2g}, so an update is at most {ratio:.2g} of a weight, while the "
            "loss is still {loss:.3g}",
            **values,
        )
    else:
        cause = say(
            "since step {since} the weights have not changed: the learning rate has fallen from "
            "{highest:.2g} to {lr:.2g}, while the loss is still {loss:.3g}",
            **values,
        )
    advice = say(
        "make the schedule as long as the run: check whether scheduler.step() is called per batch "
        "or per epoch"
    )
    return cause, advice


def _since_the_start(values: Values) -> tuple[Message, Message]:
    """Return the same for weights that never moved."""
    if not values["lr"]:
        return (
            say(
                "the learning rate is 0, so no update changes a weight: the loss has not moved "
                "from {first_loss:.3g}",
                **values,
            ),
            say(
                "set a learning rate; where a schedule sets it, check its first values and how "
                "often scheduler.step() is called"
            ),
        )
    if values["ratio"]:
        cause = say(
            "the learning rate is too low: at {lr:.2g} an update is at most {ratio:.2g} of a "
            "weight ({parameter}, step {step}), where a thousandth is typical, and the loss has "
            "not moved from {first_loss:.3g}",
            **values,
        )
    else:
        cause = say(
            "the learning rate is too low: at {lr:.2g} an update changes no weight, and the loss "
            "has not moved from {first_loss:.3g}",
            **values,
        )
    return cause, _raise(values)


def _raise(values: Values) -> Message:
    """Return the advice to raise the learning rate to `higher`, NaN where that is not known."""
    is_plain, is_known = values["kind"] in PLAIN, not math.isnan(float(values["higher"]))
    if is_plain and is_known:
        return say(
            "raise the learning rate from {lr:.2g} to about {higher:.1g} and check the updates "
            "again; SGD often starts at 0.1 or 0.01",
            **values,
        )
    if is_plain:
        return say(
            "raise the learning rate by a factor of a hundred and check the updates again; SGD "
            "often starts at 0.1 or 0.01"
        )
    if is_known:
        return say(
            "raise the learning rate from {lr:.2g} to about {higher:.1g} and check the updates "
            "again; {kind} often starts at 1e-3",
            **values,
        )
    return say(
        "raise the learning rate by a factor of a hundred and check the updates again; {kind} "
        "often starts at 1e-3",
        **values,
    )


def raising(track: SmallUpdateTrack) -> float:
    """Return by how much to raise the learning rate so that the weights change by a few thousandths
    at each step, as they often do at first. NaN: not known.
    """
    seen = track.measured
    ratio = seen.batch.usual_moves[seen.index]
    return 3 * TYPICAL / ratio if ratio > 0 and track.last.last_lr else math.nan


def raised(last: StepGroup, factor: float) -> str:
    """Return the optimizer with a learning rate this many times as high, where nothing is known of
    how the script creates it.
    """
    if math.isnan(factor):
        return "print([group['lr'] for group in optimizer.param_groups])"
    lr = last.last_lr * factor
    return f"torch.optim.{last.kind or 'SGD'}(model.parameters(), lr={lr:.1g})"


def lowering(track: LargeUpdateTrack) -> float:
    """Return by what to multiply the learning rate so that the largest updates are a hundredth of
    the weights, as they may well be at first; at most a tenth.
    """
    largest = max(track.at_first.ratio, track.largest_group, track.shown.value)
    return max(min(0.1, 10 * TYPICAL / largest if largest > 0 else 0.1), LEAST)


def too_large(track: LargeUpdateTrack, last: StepGroup, is_thrown_up: bool) -> Message:
    """Return the cause for a loss that updates have thrown up, or that stays where they have
    destroyed the weights.
    """
    values = {
        "percent": track.shown.value * 100,
        "parameter": track.shown.parameter,
        "first_loss": track.first_loss,
        "loss": last.loss_level,
        "step": last.last_step,
        "shown_step": track.shown.step,
    }
    if is_thrown_up:
        return say(
            "the learning rate is too high: at step {shown_step} one update changes "
            "{parameter} by {percent:.3g}% of its size, and by step {step} the loss has risen "
            "from {first_loss:.3g} to {loss:.3g}",
            **values,
        )
    return say(
        "the learning rate is too high: at step {shown_step} one update changes "
        "{parameter} by {percent:.3g}% of its size, and at step {step} the loss is still "
        "{loss:.3g} (it started at {first_loss:.3g})",
        **values,
    )


def lower_learning_rate(kind: str, lr: float, lower: float) -> Message:
    """Return the advice for updates that are too large."""
    if kind in BY_SIGN and lr >= 0.02:
        return say(
            "{kind} moves every weight by about the learning rate at each step: use 1e-3 or less "
            "instead of {lr:.2g}",
            kind=kind,
            lr=lr,
        )
    return say(
        "lower the learning rate (from {lr:.2g} to {lower:.1g}), and again if necessary, "
        "until an update is about a thousandth of the weight; increase the learning rate gradually "
        "over the first steps",
        lr=lr,
        lower=lower,
    )
