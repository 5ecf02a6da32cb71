"""Judge whether a learning rate schedule fits the training, from what is known of a scheduler at a
call of it, and at the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from seismograd.analysis.schedule_code import (
    as_factor,
    fitted,
    in_the_right_order,
    once_per_epoch,
    without_its_state,
)
from seismograd.i18n import Message, say
from seismograd.schema import Fact

NEAR_THE_TOP = 0.9
# of a function that returns a learning rate: calls after its highest, the largest rate of an
# optimizer, and how near what it returns first is to that
LASTING = 3
MAX_BASE = 0.5
SAME_FACTOR = 1e-3

Values = dict[str, str | int | float]


class ScheduleLimits(Protocol):
    """The thresholds of `ScheduleMismatch` that are needed here."""

    zero_calls: int
    zero_share: float
    swings: int
    low_share: float
    unfinished: float
    tolerance: float


@dataclass(frozen=True, slots=True)
class Misfit:
    """The misfit in words; `rank`: of several the one with the highest is reported."""

    rank: int
    severity: str
    cause: Message
    advice: Message
    value: float
    limit: float
    excerpt: str = ""


def misfit(fact: Fact, limits: ScheduleLimits, samples: float) -> Misfit | None:
    """Return the misfit that a fact of kind `SCHEDULE` shows. `samples`: how many the losses were
    means of.
    """
    values = _values(fact)
    if fact.text("others") and fact.number("calls") >= limits.zero_calls / 2:
        code = fact.text("creation")
        code = f"{code}  # after the line that creates {fact.text('others')}" if code else ""
        return Misfit(4, "error", *_of_another(values), fact.number("calls"), 0.0, code)
    return (
        _loaded_at_its_end(fact, values, limits)
        or _is_no_factor(fact, values)
        or _ended(fact, values, limits)
        or _swings(fact, values, limits)
        or _rises_again(fact, values)
        or _decayed(fact, values, limits)
        or _shrunk(fact, values, limits)
        or (_unfinished(fact, values, limits, samples) if fact.number("ended") else None)
    )


def never_stepped(fact: Fact, limits: ScheduleLimits) -> Misfit | None:
    """Return the meaning of a scheduler that was created, set the rate to zero and was never
    stepped.
    """
    if not fact.number("steps") >= limits.zero_calls:
        return None
    cause = say(
        "the learning rate is 0 in all {steps} steps: {scheduler}, created at {line}, begins with "
        "0 and was stepped 0 times",
        **_values(fact),
    )
    advice = say("call scheduler.step() after each optimizer.step()")
    code = "scheduler.step()  # after each optimizer.step()"
    return Misfit(3, "error", cause, advice, 0.0, fact.number("steps"), code)


def begins_early(fact: Fact) -> bool:
    """Return whether its optimizer has not been stepped at its first call."""
    return fact.number("calls") == 1 and not fact.number("stepped")


def too_early(fact: Fact, last: Fact) -> Misfit:
    """Return the meaning of that; `last` is what is known at the end."""
    return Misfit(
        0,
        "warning",
        say(
            "scheduler.step() at {line} is called before the first optimizer.step(): the first "
            "value of {scheduler} is never used, and every later one comes one step too early",
            **_values(fact),
        ),
        say("call scheduler.step() after optimizer.step(), at the end of the batch or the epoch"),
        1.0,
        0.0,
        in_the_right_order(last) if _is_called_each_step(last) else once_per_epoch(last),
    )


def remade(fact: Fact, least: int) -> Misfit:
    """Return the meaning of schedulers that take each other's place."""
    made = fact.number("made")
    cause = say(
        "the schedule starts over again and again: {made} {scheduler} objects have set the "
        "learning rate of one optimizer, each for about {calls} calls (at {line})",
        scheduler=fact.text("scheduler"),
        line=fact.where or "?",
        made=int(made),
        calls=int(fact.number("calls")),
    )
    advice = say("create the scheduler once, before the loop over the epochs")
    return Misfit(2, "warning", cause, advice, made, float(least))


def not_loaded(fact: Fact) -> Misfit:
    """Return the meaning of a schedule that starts anew over a loaded optimizer."""
    initial, loaded = fact.number("initial"), fact.number("loaded")
    return Misfit(
        3,
        "warning",
        say(
            "the state of the optimizer was loaded at {line}, but not that of its scheduler: "
            "{scheduler} starts from its first step, although the schedule had already gone from "
            "a learning rate of {initial:g} to {loaded:g}",
            line=fact.where or "?",
            scheduler=fact.text("scheduler"),
            initial=initial,
            loaded=loaded,
        ),
        say("save scheduler.state_dict() in the checkpoint as well, and load both"),
        loaded,
        initial,
    )


def _values(fact: Fact) -> Values:
    calls, steps = fact.number("calls"), fact.number("steps")
    length = fact.number("length")
    return {
        "scheduler": fact.text("scheduler"),
        "line": fact.where or "?",
        "calls": int(calls),
        "steps": int(steps),
        "length": int(length) if length == length else 0,
        "others": fact.text("others"),
        "before": int(_known(fact, "before")),
        "lr": fact.number("lr"),
        "highest": fact.number("highest"),
        "every": round(steps / calls) if calls and steps == steps else 0,
        "per_epoch": int(_known(fact, "per_epoch")),
    }


def _known(fact: Fact, name: str) -> float:
    """Return a number, 0 where it is not known."""
    number = fact.number(name)
    return number if number == number else 0.0


def _is_called_each_step(fact: Fact) -> bool:
    return 0 < fact.number("steps") <= 1.34 * fact.number("calls")


def _of_another(values: Values) -> tuple[Message, Message]:
    return (
        say(
            "{scheduler} was stepped {calls} times at {line}, but the optimizer whose learning "
            "rate it sets was never stepped: {others} trains the same parameters, at a learning "
            "rate that does not change",
            **values,
        ),
        say(
            "create the scheduler for the optimizer that is stepped; if you create a new "
            "optimizer, create a new scheduler for it as well"
        ),
    )


def _loaded_at_its_end(fact: Fact, values: Values, limits: ScheduleLimits) -> Misfit | None:
    """Detect the state of a finished schedule, with which a training goes on at a rate of zero."""
    num = fact.number("calls") - fact.number("zero_since")
    if not values["before"] or fact.number("zero_since") != 1 or num < limits.zero_calls:
        return None
    values["step"] = int(fact.number("zero_iteration"))
    cause = say(
        "the learning rate has been 0 since step {step}, when {scheduler} was stepped for the "
        "first time (at {line}): the state that it was given is that of a schedule which {before} "
        "calls had brought to its end",
        **values,
    )
    advice = say(
        "do not load the state of the scheduler for a new training, so that the schedule begins "
        "anew; to continue the same training, make it longer than {before} calls",
        **values,
    )
    return Misfit(3, "error", cause, advice, num, limits.zero_calls, without_its_state(fact))


def _is_no_factor(fact: Fact, values: Values) -> Misfit | None:
    """Detect a function that returns a learning rate where a factor of one is asked for."""
    base, top = fact.number("base"), fact.number("top")
    lasts = fact.number("calls") - fact.number("top_call") >= LASTING
    if not fact.number("ended") or not lasts or not 0 < base < MAX_BASE:
        return None
    if not math.isclose(top, base * base, rel_tol=SAME_FACTOR):
        return None
    values |= {"base": base, "top": top}
    cause = say(
        "the function of {scheduler} (stepped at {line}) returns a learning rate where it has to "
        "return a factor: the highest learning rate was {top:.3g}, which is that of the optimizer, "
        "{base:.3g}, times itself",
        **values,
    )
    advice = say(
        "return a factor between 0 and 1: divide what the function returns by the learning rate of "
        "the optimizer, {base:.3g}",
        **values,
    )
    return Misfit(3, "warning", cause, advice, top, base, as_factor(fact))


def _ended(fact: Fact, values: Values, limits: ScheduleLimits) -> Misfit | None:
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


def _swings(fact: Fact, values: Values, limits: ScheduleLimits) -> Misfit | None:
    """Detect a rate that goes up and down with a period far shorter than the training."""
    calls, length = fact.number("calls"), fact.number("length")
    if not fact.number("periodic") or not calls >= limits.swings * length:
        return None
    if not _is_called_each_step(fact):
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


def _rises_again(fact: Fact, values: Values) -> Misfit | None:
    """Detect a cosine without restarts that the training ends at the top of."""
    calls, length = fact.number("calls"), fact.number("length")
    if not fact.number("periodic") or not fact.number("ended") or not calls >= 2 * length:
        return None
    if not fact.number("lr") >= NEAR_THE_TOP * fact.number("highest"):
        return None
    cause = say(
        "{scheduler} goes from its highest learning rate to its lowest in {length} calls and then "
        "back up; it was stepped {calls} times (at {line}), so the training ends at a learning "
        "rate of {lr:.2g}, its highest",
        **values,
    )
    return Misfit(2, "warning", cause, *_unit(fact, values, calls / length, 2.0))


def _decayed(fact: Fact, values: Values, limits: ScheduleLimits) -> Misfit | None:
    """Detect a rate that has fallen to its last value in the first part of the training."""
    calls, length = fact.number("calls"), fact.number("length")
    is_over = calls >= 2 * limits.swings * length and fact.number("lr") < 0.5 * fact.number(
        "highest"
    )
    if not is_over or fact.number("periodic") or not _is_called_each_step(fact):
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


def _shrunk(fact: Fact, values: Values, limits: ScheduleLimits) -> Misfit | None:
    """Detect a rate that has become tiny early in the training."""
    calls, since = fact.number("calls"), fact.number("low_since")
    num = calls - since
    if since < 0 or num < max(2, limits.low_share * calls):
        return None
    if not num * max(fact.number("steps") / calls, 1.0) >= 2 * limits.zero_calls:
        return None
    values |= {"step": int(fact.number("low_iteration")), "share": num / calls}
    if _is_called_each_step(fact):
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


def _unfinished(
    fact: Fact, values: Values, limits: ScheduleLimits, samples: float
) -> Misfit | None:
    """Detect a schedule that was made for more calls than came, and for as many as there were of
    something else.
    """
    calls, length = fact.number("calls"), fact.number("length")
    if not _known(fact, "before") + calls <= limits.unfinished * length:
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
) -> tuple[Message, float, float, str]:
    """Return what to change in a schedule that is over too soon, and what that is inferred from;
    with the value and its limit, and the code.
    """
    advice, code = _change(fact, values)
    return advice, value, limit, code


def _change(fact: Fact, values: Values) -> tuple[Message, str]:
    calls, steps, length = fact.number("calls"), fact.number("steps"), fact.number("length")
    epochs, per_epoch = _known(fact, "epochs"), _known(fact, "per_epoch")
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
    if _is_called_each_step(fact):
        advice = say(
            "it is stepped after every batch: if its length is in epochs, step it once per epoch; "
            "otherwise make it as long as the training, epochs * len(loader)"
        )
        return advice, once_per_epoch(fact)
    return say(
        "make the schedule as long as the training: its T_max, step_size, milestones or gamma"
    ), fitted(fact)
