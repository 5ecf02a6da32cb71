"""Where the script gives an optimizer its settings, as the facts about its creation tell."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from seismograd.analysis.mended_argument import with_argument, with_factor
from seismograd.schema import Fact, FactKind

# classes of schedules that are given the rates themselves, by their argument
GIVEN_RATE = {"OneCycleLR": "max_lr", "CyclicLR": "max_lr"}
DECAY = "weight_decay"


@dataclass(frozen=True, slots=True)
class MendedStatement:
    """A statement of the script with another number, and its line."""

    where: str
    text: str


@dataclass(slots=True)
class SettingSources:
    """Takes facts of the kinds `OPTIMIZER_CREATED` and `SCHEDULE`."""

    _created: dict[int, Fact] = field(default_factory=dict[int, Fact])
    _schedules: dict[int, Fact] = field(default_factory=dict[int, Fact])

    def learn(self, fact: Fact) -> None:
        """Take it in, if it is one of these."""
        if fact.kind == FactKind.OPTIMIZER_CREATED:
            self._created[fact.optimizer] = fact
        elif fact.kind == FactKind.SCHEDULE and fact.text("scheduler") in GIVEN_RATE:
            self._schedules.setdefault(fact.optimizer, fact)

    def rate_times(self, optimizer: int, factor: float, iteration: int) -> MendedStatement | None:
        """Return the statement that the learning rate of an optimizer comes from, with a rate this
        many times as high: of a schedule that is given the rate, of the script where it writes the
        rate itself, else of the optimizer. `None` where that is not known by this iteration, nor
        where the factor is not known: NaN, as of a rate of 0.
        """
        if math.isnan(factor):
            return None
        schedule, made = self._schedules.get(optimizer), self._created.get(optimizer)
        if schedule is not None and schedule.iteration <= iteration:
            kind = schedule.text("scheduler")
            text = with_argument(
                schedule.text("creation"), kind, GIVEN_RATE[kind], factor, math.nan
            )
            return _change(schedule.text("created"), text)
        if made is None or made.iteration > iteration:
            return None
        if made.text("setter"):
            return _change(made.text("set_at"), with_factor(made.text("setter"), factor))
        text = with_argument(
            made.text("text"), made.text("call"), made.text("argument"), factor, made.number("lr")
        )
        return _change(made.text("place"), text)

    def decay_times(self, optimizer: int, factor: float) -> MendedStatement | None:
        """Return the statement that creates an optimizer with its weight decay multiplied by a
        number; `None` where it does not say what the decay is.
        """
        made = self._created.get(optimizer)
        if made is None:
            return None
        text = with_argument(made.text("text"), made.text("call"), DECAY, factor, math.nan)
        return _change(made.text("place"), text)


def _change(where: str, text: str) -> MendedStatement | None:
    return MendedStatement(where, text) if where and text else None
