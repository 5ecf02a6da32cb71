"""What is wrong with the use of a schedule, in words, and what of a fact the words need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from seismograd.i18n import Message
from seismograd.schema import Fact

Values = dict[str, str | int | float]


class ScheduleLimits(Protocol):
    """The thresholds of `ScheduleMismatch` that are needed here."""

    zero_calls: int
    zero_share: float
    swings: int
    turns: int
    low_share: float
    unfinished: float
    tolerance: float
    max_factor: float
    warm_up: float
    warm_up_calls: int
    moved: float
    left_calls: int


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
    where: str = ""  # the line that the code is for, if it is not that of the call


def values_of(fact: Fact) -> Values:
    """Return what the words of a misfit say of a scheduler."""
    calls, steps = fact.number("calls"), fact.number("steps")
    length = fact.number("length")
    return {
        "scheduler": fact.text("scheduler"),
        "line": fact.where or "?",
        "calls": int(calls),
        "steps": int(steps),
        "length": int(length) if length == length else 0,
        "others": fact.text("others"),
        "before": int(known(fact, "before")),
        "lr": fact.number("lr"),
        "highest": fact.number("highest"),
        "every": round(steps / calls) if calls and steps == steps else 0,
        "per_epoch": int(known(fact, "per_epoch")),
    }


def known(fact: Fact, name: str) -> float:
    """Return a number, 0 where it is not known."""
    number = fact.number(name)
    return number if number == number else 0.0


def is_called_each_step(fact: Fact) -> bool:
    """Return whether it is stepped about as often as its optimizer."""
    return 0 < fact.number("steps") <= 1.34 * fact.number("calls")
