"""`seismograd rules`: list every rule in a table."""

from __future__ import annotations


def rules() -> None:
    """List all rules."""
    from seismograd.cli.terminal import output
    from seismograd.views.rule_pages import catalogue

    output.answer(catalogue())
    output.suggest("seismograd explain SG101")
