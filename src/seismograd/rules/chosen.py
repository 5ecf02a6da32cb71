"""The rules of a choice, with its thresholds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from seismograd.choice import Choice
from seismograd.rules import RULES
from seismograd.rules.rule import Rule


def chosen(choice: Choice) -> tuple[Callable[[], Rule], ...]:
    """What makes each rule that is to run."""
    return tuple(partial(rule, **choice.of(rule.code)) for rule in RULES if choice.takes(rule.code, rule.name))
