"""`seismograd rules`: list every rule in a table."""

from __future__ import annotations

from seismograd.cli.terminal.format_option import FormatOption, is_json


def rules(form: FormatOption = "text") -> None:
    """List all rules."""
    in_json = is_json(form)
    from seismograd.cli.terminal import output
    from seismograd.views.rule_pages import catalogue, catalogue_json

    output.answer(catalogue_json() if in_json else catalogue())
    output.suggest("seismograd explain SG101")
