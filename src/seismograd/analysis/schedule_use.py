"""Judge how a schedule is used: which optimizer it is of, from which state, in which order."""

from __future__ import annotations

import math

from seismograd.analysis.schedule_code import (
    as_factor,
    in_the_right_order,
    once_per_epoch,
    without_its_state,
)
from seismograd.analysis.schedule_misfit import (
    Misfit,
    ScheduleLimits,
    Values,
    is_called_each_step,
    values_of,
)
from seismograd.i18n import Message, say
from seismograd.schema import Fact

# of a function that returns a learning rate: calls after its highest, the largest rate of an
# optimizer, and how near what it returns first is to that
LASTING = 3
MAX_BASE = 0.5
SAME_FACTOR = 1e-3


def never_stepped(fact: Fact, limits: ScheduleLimits) -> Misfit | None:
    """Return the meaning of a scheduler that was created, set the rate to zero and was never
    stepped.
    """
    if not fact.number("steps") >= limits.zero_calls:
        return None
    cause = say(
        "the learning rate is 0 in all {steps} steps: {scheduler}, created at {line}, begins with "
        "0 and was stepped 0 times",
        **values_of(fact),
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
            **values_of(fact),
        ),
        say("call scheduler.step() after optimizer.step(), at the end of the batch or the epoch"),
        1.0,
        0.0,
        in_the_right_order(last) if is_called_each_step(last) else once_per_epoch(last),
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


def of_another(values: Values) -> tuple[Message, Message]:
    """Return cause and advice of a scheduler whose optimizer is not the one that steps."""
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


def left_behind(fact: Fact, rates: tuple[float, float], limits: ScheduleLimits) -> Misfit | None:
    """Detect a scheduler whose optimizer another one has replaced: that one's rate, of which the
    lowest and the highest are given, does not change.
    """
    num, lr, before = fact.number("idle"), fact.number("lr"), fact.number("idle_lr")
    enough = num >= limits.left_calls and fact.number("successor_steps") >= limits.zero_calls
    would_change = abs(lr - before) > limits.moved * before
    if not enough or not would_change or rates[0] != rates[1]:
        return None
    values = {**values_of(fact), "idle": int(num), "successor": fact.text("successor")}
    cause = say(
        "in its last {idle} calls at {line}, {scheduler} has set the learning rate of an optimizer "
        "that is no longer stepped: {successor} has taken its place, and trains the same "
        "parameters at a learning rate that stays at {rate:.3g}",
        **values,
        rate=rates[1],
    )
    advice = say(
        "create a new scheduler where the new optimizer is created, or keep the optimizer and give "
        "it the new parameters by add_param_group"
    )
    code = fact.text("creation")
    code = f"{code}  # after the line that creates {fact.text('successor')}" if code else ""
    return Misfit(4, "warning", cause, advice, num, float(limits.left_calls), code)


def loaded_at_its_end(fact: Fact, values: Values, limits: ScheduleLimits) -> Misfit | None:
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


def is_no_factor(fact: Fact, values: Values, limits: ScheduleLimits) -> Misfit | None:
    """Detect a function that returns a learning rate where a factor of one is asked for."""
    base, top = fact.number("base"), fact.number("top")
    lasts = fact.number("calls") - fact.number("top_call") >= LASTING
    if not fact.number("ended") or not lasts or not 0 < base < MAX_BASE:
        return None
    values |= {"base": base, "top": top, "share": top / base}
    if math.isclose(top, base * base, rel_tol=SAME_FACTOR):
        cause = say(
            "the function of {scheduler} (stepped at {line}) returns a learning rate where it has "
            "to return a factor: the highest learning rate was {top:.3g}, which is that of the "
            "optimizer, {base:.3g}, times itself",
            **values,
        )
    elif 0 < top <= limits.max_factor * base and not _goes_on(fact):
        cause = say(
            "the function of {scheduler} (stepped at {line}) probably returns a learning rate "
            "where it has to return a factor: the highest learning rate ever was {top:.3g}, which "
            "is {share:.2%} of that of the optimizer, {base:.3g}",
            **values,
        )
    else:
        return None
    advice = say(
        "return a factor between 0 and 1: divide what the function returns by the learning rate of "
        "the optimizer, {base:.3g}, or create the optimizer with lr=1.0",
        **values,
    )
    return Misfit(3, "warning", cause, advice, top, base, as_factor(fact))


def still_warms_up(fact: Fact, values: Values, limits: ScheduleLimits) -> Misfit | None:
    """Detect a warm-up that a whole training is too short for."""
    base, top, calls = fact.number("base"), fact.number("top"), int(fact.number("calls"))
    if (
        not fact.number("ended")
        or fact.number("periodic")
        or not is_called_each_step(fact)
        or calls < limits.warm_up_calls
        or fact.number("top_call") < calls
        or not 0 < top <= limits.warm_up * base
        or _goes_on(fact)
    ):
        return None
    values |= {"base": base, "top": top, "share": top / base, "needed": round(calls * base / top)}
    cause = say(
        "the warm-up of {scheduler} (stepped at {line}) is longer than the training: after {calls} "
        "steps the learning rate still rises and has come to {top:.3g}, which is {share:.2%} of "
        "that of the optimizer, {base:.3g}; at this pace it would take {needed} steps",
        **values,
    )
    advice = say(
        "make the warm-up a small part of the training, a tenth or less of its {calls} steps",
        **values,
    )
    excerpt = f"warmup_steps = {max(1, calls // 10)}"
    return Misfit(3, "warning", cause, advice, top, limits.warm_up * base, excerpt)


def _goes_on(fact: Fact) -> bool:
    """Return whether a schedule begins in its middle, where its factor is small already."""
    return fact.number("before") > 0 or "last_epoch" in fact.text("creation")
