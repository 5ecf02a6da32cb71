"""Judge whether ReduceLROnPlateau takes what is better for what is worse."""

from __future__ import annotations

from seismograd.analysis.loss_level import LossLevel
from seismograd.analysis.schedule_misfit import Misfit
from seismograd.i18n import say
from seismograd.schema import Fact

MOST = 0.6  # of the changes of the metric


def wrong_mode(fact: Fact, loss: LossLevel, near: float, moved: float) -> Misfit | None:
    """Return the misfit that a fact of kind `PLATEAU` shows beside the loss: a metric `near` the
    loss is one, and what has `moved` by this share has moved.
    """
    first, last = fact.number("first"), fact.number("last")
    falls, rises = fact.number("falls"), fact.number("rises")
    if not loss.first or not falls + rises or not fact.number("reductions"):
        return None
    if not loss.now < (1 - moved) * loss.at_first:
        return None
    name = fact.text("name") or "optimizer"
    is_loss = loss.at_first / near <= first <= loss.at_first * near
    values: dict[str, str | int | float] = {
        "line": fact.where or "?",
        "first": first,
        "last": last,
        "num": int(fact.number("reductions")),
        "lr": fact.number("lr"),
    }
    if fact.text("mode") == "max":
        never_rose = fact.number("highest") <= 1.02 * first
        falls_with_it = last <= (1 - moved) * first and (
            falls >= MOST * (falls + rises) or never_rose
        )
        cause = say(
            "ReduceLROnPlateau at {line} has mode='max', but its metric falls with the loss, from "
            "{first:.3g} to {last:.3g}: it takes every improvement for a plateau and has lowered "
            "the learning rate {num} {num:time|times}, to {lr:.2g}",
            **values,
        )
        advice = say("set mode='min', which is for a loss: lower is better")
        code = f'ReduceLROnPlateau({name}, mode="min")'
        found = Misfit(2, "warning", cause, advice, last, first, code)
        return found if is_loss and falls_with_it else None
    is_score = (
        rises >= MOST * (falls + rises)
        and last >= (1 + moved) * first
        and fact.number("lowest") >= 0.98 * first
        and 0 <= first <= 100 >= last
    )
    cause = say(
        "ReduceLROnPlateau at {line} has mode='min', but its metric rises while the loss falls, "
        "from {first:.3g} to {last:.3g}: it takes every improvement for a plateau and has lowered "
        "the learning rate {num} {num:time|times}, to {lr:.2g}",
        **values,
    )
    advice = say("set mode='max', which is for an accuracy or a score: higher is better")
    code = f'ReduceLROnPlateau({name}, mode="max")'
    found = Misfit(2, "warning", cause, advice, last, first, code)
    return found if is_score and not is_loss else None
