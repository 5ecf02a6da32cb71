"""The rules of a selection, with its thresholds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from seismograd.diagnosis.rule import Rule
from seismograd.rules import RULES
from seismograd.settings.rule_selection import RuleSelection


def selected_rules(selection: RuleSelection) -> tuple[Callable[[], Rule], ...]:
    """Return the constructor of each rule to run."""
    return tuple(
        partial(rule, **selection.thresholds_of(rule.code))
        for rule in RULES
        if selection.includes(rule.code, rule.name)
    )
