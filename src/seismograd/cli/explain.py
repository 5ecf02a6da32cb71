"""`seismograd explain`: print the documentation of one rule."""

from __future__ import annotations

from typing import Annotated

import typer

from seismograd.cli.completion import rule_codes
from seismograd.cli.terminal.format_option import FormatOption, is_json
from seismograd.i18n import mark


def explain(
    rule: Annotated[
        str,
        typer.Argument(
            metavar="RULE",
            help=mark("The code or name of a rule, such as SG101 or vanishing-gradient."),
            autocompletion=rule_codes,
        ),
    ],
    form: FormatOption = "text",
) -> None:
    """Explain a rule."""
    from seismograd.cli.terminal import output
    from seismograd.views.rule_pages import explanation, explanation_json, find_rule

    in_json, found = is_json(form), find_rule(rule)
    output.answer(explanation_json(found) if in_json else explanation(found))
    output.suggest("seismograd check")
