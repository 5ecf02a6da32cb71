"""The signals of modules, one line each with all that was measured."""

from __future__ import annotations

from seismograd.views.module_signals import FIELDS, ModuleRow, ModuleSignals


def render(signals: ModuleSignals) -> str:
    """Return one line for each call of a module."""
    return "\n".join(_line(row) for row in signals.rows)


def _line(row: ModuleRow) -> str:
    known = [(name, row.numbers[name]) for name in FIELDS]
    numbers = (f"{name}={value:.6g}" for name, value in known if value is not None)
    return " ".join((row.name, row.subject.type, *numbers))
