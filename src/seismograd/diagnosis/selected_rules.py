"""The rules of a selection, with its thresholds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from seismograd.diagnosis.added_rule import make_added_rule
from seismograd.diagnosis.rule import Rule
from seismograd.rules import RULES
from seismograd.settings.rule_selection import RuleSelection


def selected_rules(selection: RuleSelection) -> tuple[Callable[[], Rule], ...]:
    """Return the constructor of each rule to run."""
    own = tuple(
        partial(rule, **selection.thresholds_of(rule.code))
        for rule in RULES
        if selection.includes(rule.code, rule.name)
    )
    added = tuple(
        make_added_rule(code, selection.thresholds_of(code))
        for code in selection.added
        if selection.includes(code, code.lower())
    )
    return own + added
