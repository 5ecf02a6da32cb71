"""`seismograd explain`: print the documentation of one rule."""

from __future__ import annotations

from typing import Annotated

import typer

from seismograd.i18n import mark


def explain(
    rule: Annotated[
        str,
        typer.Argument(
            metavar="RULE",
            help=mark("The code or name of a rule, such as SG101 or vanishing-gradient."),
        ),
    ],
) -> None:
    """Explain a rule."""
    from seismograd.cli.terminal import output
    from seismograd.views.rule_pages import explanation, find_rule

    output.answer(explanation(find_rule(rule)))
    output.suggest("seismograd check RUN")
