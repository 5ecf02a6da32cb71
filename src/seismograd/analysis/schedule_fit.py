"""Judge whether a learning rate schedule fits the training, from what is known of a scheduler at a
call of it, and at the end.
"""

from __future__ import annotations

from seismograd.analysis.schedule_length import (
    decayed,
    ended,
    rises_again,
    shrunk,
    swings,
    unfinished,
)
from seismograd.analysis.schedule_misfit import (
    Misfit,
    ScheduleLimits,
    values_of,
)
from seismograd.analysis.schedule_use import (
    is_no_factor,
    loaded_at_its_end,
    of_another,
    still_warms_up,
)
from seismograd.schema import Fact


def misfit(fact: Fact, limits: ScheduleLimits, samples: float) -> Misfit | None:
    """Return the misfit that a fact of kind `SCHEDULE` shows. `samples`: how many the losses were
    means of.
    """
    values = values_of(fact)
    if fact.text("others") and fact.number("calls") >= limits.zero_calls / 2:
        code = fact.text("creation")
        code = f"{code}  # after the line that creates {fact.text('others')}" if code else ""
        return Misfit(4, "error", *of_another(values), fact.number("calls"), 0.0, code)
    return (
        loaded_at_its_end(fact, values, limits)
        or is_no_factor(fact, values, limits)
        or still_warms_up(fact, values, limits)
        or ended(fact, values, limits)
        or swings(fact, values, limits)
        or rises_again(fact, values, limits)
        or decayed(fact, values, limits)
        or shrunk(fact, values, limits)
        or (unfinished(fact, values, limits, samples) if fact.number("ended") else None)
    )
