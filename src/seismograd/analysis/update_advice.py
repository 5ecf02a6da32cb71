"""Describe updates that are too small or too large: cause and advice."""

from __future__ import annotations

from seismograd.analysis.large_updates import BY_SIGN, LargeUpdateTrack
from seismograd.analysis.small_updates import PLAIN, SmallUpdateTrack
from seismograd.analysis.step_groups import StepGroup
from seismograd.i18n import Message, say

Values = dict[str, str | int | float]

TYPICAL = 1e-3  # of a weight, changed by an update


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
    if values["kind"] in PLAIN:
        return cause, say(
            "raise the learning rate by a factor of a hundred and check the updates again; SGD "
            "often starts at 0.1 or 0.01"
        )
    return cause, say(
        "raise the learning rate by a factor of a hundred and check the updates again; {kind} "
        "often starts at 1e-3",
        **values,
    )


def raised(last: StepGroup, ratio: float) -> str:
    """Return the optimizer with a learning rate whose updates are as large as is typical; `ratio`
    is how large they are now.
    """
    if not ratio or not last.last_lr:
        return "print([group['lr'] for group in optimizer.param_groups])"
    lr = last.last_lr * TYPICAL / ratio
    return f"torch.optim.{last.kind or 'SGD'}(model.parameters(), lr={lr:.1g})"


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


def lowered(kind: str, lr: float) -> float:
    """Return the learning rate that `lower_learning_rate` advises."""
    return 1e-3 if _moves_by_the_rate(kind, lr) else lr / 10


def _moves_by_the_rate(kind: str, lr: float) -> bool:
    return kind in BY_SIGN and lr >= 0.02


def lower_learning_rate(kind: str, lr: float) -> Message:
    """Return the advice for updates that are too large."""
    if _moves_by_the_rate(kind, lr):
        return say(
            "{kind} moves every weight by about the learning rate at each step: use 1e-3 or less "
            "instead of {lr:.2g}",
            kind=kind,
            lr=lr,
        )
    return say(
        "divide the learning rate by ten (from {lr:.2g} to {tenth:.1g}), repeatedly if necessary, "
        "until an update is about a thousandth of the weight; increase the learning rate gradually "
        "over the first steps",
        lr=lr,
        tenth=lr / 10,
    )
