"""Judge the length of a schedule against the calls of its step and of the optimizer's."""

from __future__ import annotations

from seismograd.analysis.schedule_code import (
    fitted,
    in_the_right_order,
    once_per_epoch,
    place_of,
)
from seismograd.analysis.schedule_misfit import (
    Misfit,
    ScheduleLimits,
    Values,
    is_called_each_step,
    known,
)
from seismograd.i18n import Message, say
from seismograd.schema import Fact

NEAR_THE_TOP = 0.9


def ended(fact: Fact, values: Values, limits: ScheduleLimits) -> Misfit | None:
    """Detect a rate that is zero from some call on."""
    num, calls = fact.number("calls") - fact.number("zero_since"), fact.number("calls")
    if fact.number("zero_since") < 0 or num < limits.zero_calls or num < limits.zero_share * calls:
        return None
    values |= {"step": int(fact.number("zero_iteration")), "num": int(num)}
    if values["length"]:
        cause = say(
            "the learning rate has been 0 since step {step}: {scheduler} has a length of {length} "
            "calls but was stepped {calls} times (at {line})",
            **values,
        )
    else:
        cause = say(
            "the learning rate has been 0 since step {step}: {scheduler} set it to 0, and {num} "
            "more {num:call|calls} of its step() at {line} left it there",
            **values,
        )
    return Misfit(3, "error", cause, *_unit(fact, values, num, limits.zero_calls))


def swings(fact: Fact, values: Values, limits: ScheduleLimits) -> Misfit | None:
    """Detect a rate that goes up and down with a period far shorter than the training."""
    calls, length = fact.number("calls"), fact.number("length")
    if not fact.number("periodic") or not calls >= limits.swings * length:
        return None
    if not is_called_each_step(fact):
        return None
    epochs = fact.number("epochs")
    if epochs == epochs:
        is_short = fact.number("per_epoch") >= 2 * length or (
            bool(fact.number("ended")) and abs(epochs - length) <= 1
        )
    else:
        is_short = calls >= 2 * limits.swings * length
    if not is_short:
        return None
    values["num"] = int(calls // length)
    cause = say(
        "{scheduler} goes from its highest learning rate to its lowest in {length} calls, but was "
        "stepped {calls} times, after every batch (at {line}): the learning rate has gone up or "
        "down {num} times",
        **values,
    )
    return Misfit(2, "warning", cause, *_unit(fact, values, calls / length, limits.swings))


def rises_again(fact: Fact, values: Values, limits: ScheduleLimits) -> Misfit | None:
    """Detect a cosine without restarts that the training ends at the top of, or that has gone
    through several of its lengths though it was not stepped after every batch.
    """
    calls, length = fact.number("calls"), fact.number("length")
    if not fact.number("periodic") or not fact.number("ended") or not calls >= 2 * length:
        return None
    if not fact.number("lr") >= NEAR_THE_TOP * fact.number("highest"):
        if is_called_each_step(fact) or calls < limits.turns * length:
            return None
        values["num"] = int(calls // length)
        cause = say(
            "{scheduler} goes from its highest learning rate to its lowest in {length} calls and "
            "then back up; it was stepped {calls} times (at {line}), so the learning rate has gone "
            "up or down {num} times",
            **values,
        )
        return Misfit(2, "warning", cause, *_unit(fact, values, calls / length, limits.turns))
    cause = say(
        "{scheduler} goes from its highest learning rate to its lowest in {length} calls and then "
        "back up; it was stepped {calls} times (at {line}), so the training ends at a learning "
        "rate of {lr:.2g}, its highest",
        **values,
    )
    return Misfit(2, "warning", cause, *_unit(fact, values, calls / length, 2.0))


def decayed(fact: Fact, values: Values, limits: ScheduleLimits) -> Misfit | None:
    """Detect a rate that has fallen to its last value in the first part of the training."""
    calls, length = fact.number("calls"), fact.number("length")
    is_over = calls >= 2 * limits.swings * length and fact.number("lr") < 0.5 * fact.number(
        "highest"
    )
    if not is_over or fact.number("periodic") or not is_called_each_step(fact):
        return None
    if fact.number("per_epoch") < 2 * length:
        return None
    cause = say(
        "{scheduler} has a length of {length} calls but was stepped {calls} times, after every "
        "batch (at {line}): the learning rate fell from {highest:.2g} to {lr:.2g} in the first "
        "batches and has stayed there",
        **values,
    )
    return Misfit(2, "warning", cause, *_unit(fact, values, calls / length, 2.0 * limits.swings))


def shrunk(fact: Fact, values: Values, limits: ScheduleLimits) -> Misfit | None:
    """Detect a rate that has become tiny early in the training."""
    calls, since = fact.number("calls"), fact.number("low_since")
    num = calls - since
    if since < 0 or num < max(2, limits.low_share * calls):
        return None
    if not num * max(fact.number("steps") / calls, 1.0) >= 2 * limits.zero_calls:
        return None
    values |= {"step": int(fact.number("low_iteration")), "share": num / calls}
    if is_called_each_step(fact):
        cause = say(
            "{scheduler}, stepped after every batch at {line}, brought the learning rate from "
            "{highest:.2g} to less than a ten-thousandth of that by step {step}, and {share:.0%} "
            "of the {steps} steps so far used such a learning rate",
            **values,
        )
    else:
        cause = say(
            "{scheduler}, stepped {calls} times at {line}, brought the learning rate from "
            "{highest:.2g} to less than a ten-thousandth of that by step {step}, and {share:.0%} "
            "of the {steps} steps so far used such a learning rate",
            **values,
        )
    return Misfit(2, "warning", cause, *_unit(fact, values, num, limits.zero_calls))


def unfinished(fact: Fact, values: Values, limits: ScheduleLimits, samples: float) -> Misfit | None:
    """Detect a schedule that was made for more calls than came, and for as many as there were of
    something else.
    """
    calls, length = fact.number("calls"), fact.number("length")
    if not known(fact, "before") + calls <= limits.unfinished * length:
        return None
    steps, backwards, code = fact.number("steps"), fact.number("backwards"), ""

    def is_all(number: float) -> bool:
        return abs(length - number) <= max(2.0, limits.tolerance * number)

    size, epochs = fact.number("batch_size"), fact.number("epochs")
    by_loader = size > 1 and (backwards - epochs) * size < length <= backwards * size
    if is_all(steps):
        advice = say(
            "its length counts optimizer steps ({length}), but it is stepped once every {every} "
            "steps: call scheduler.step() after each optimizer.step(), or give its length in "
            "epochs",
            **values,
        )
        code = in_the_right_order(fact)
    elif is_all(backwards):
        advice = say(
            "its length counts micro-batches ({length}), but it is stepped once per optimizer "
            "step: divide its length by the number of micro-batches per step",
            **values,
        )
    elif by_loader or (samples > 1.5 * backwards and is_all(samples)):
        advice = say(
            "its length counts samples: use the number of batches, len(loader), instead of "
            "len(dataset)",
            **values,
        )
    elif fact.number("world") > 1 and is_all(calls * fact.number("world")):
        advice = say(
            "its length counts the batches of all processes, but each process makes only its "
            "share of the steps: divide the length by the number of processes"
        )
    else:
        return None
    cause = say(
        "{scheduler} has a length of {length} calls but was stepped only {calls} times (at "
        "{line}): the training covers only part of its schedule and ends at a learning rate of "
        "{lr:.2g}",
        **values,
    )
    return Misfit(1, "warning", cause, advice, calls, length, code)


def _unit(
    fact: Fact, values: Values, value: float, limit: float
) -> tuple[Message, float, float, str, str]:
    """Return what to change in a schedule that is over too soon, and what that is inferred from;
    with the value and its limit, the code and its line.
    """
    advice, code = _change(fact, values)
    return advice, value, limit, code, place_of(fact, code)


def _change(fact: Fact, values: Values) -> tuple[Message, str]:
    calls, steps, length = fact.number("calls"), fact.number("steps"), fact.number("length")
    epochs, per_epoch = known(fact, "epochs"), known(fact, "per_epoch")
    if steps > 0 and calls >= 1.5 * steps:
        values["times"] = round(calls / steps)
        advice = say(
            "scheduler.step() is called {times} times per optimizer.step(): call it once, after "
            "optimizer.step()",
            **values,
        )
        return advice, in_the_right_order(fact)
    if length == length and epochs and length <= max(epochs + 1, per_epoch / 2):
        advice = say(
            "the DataLoader has {per_epoch} batches per epoch, so the length seems to count "
            "epochs: step the scheduler once per epoch, or give its length in batches, "
            "epochs * len(loader)",
            **values,
        )
        return advice, once_per_epoch(fact)
    if is_called_each_step(fact):
        advice = say(
            "it is stepped after every batch: if its length is in epochs, step it once per epoch; "
            "otherwise make it as long as the training, epochs * len(loader)"
        )
        return advice, once_per_epoch(fact)
    return say(
        "make the schedule as long as the training: its T_max, step_size, milestones or gamma"
    ), fitted(fact)
