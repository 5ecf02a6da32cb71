"""`seismograd rules`: every rule in a table."""

from __future__ import annotations


def rules() -> None:
    """List all rules."""
    from seismograd.views import output
    from seismograd.views.rules import catalogue

    output.answer(catalogue())
    output.suggest("seismograd explain SG101")
