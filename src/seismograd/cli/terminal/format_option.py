"""`--format text|json`, which every command takes that prints a table or a page."""

from __future__ import annotations

from typing import Annotated

import typer

from seismograd.cli.terminal.usage_errors import one_of
from seismograd.i18n import mark

FORMATS = ("text", "json")

FormatOption = Annotated[
    str,
    typer.Option(
        "--format", metavar="|".join(FORMATS), help=mark("Output format (default: text).")
    ),
]


def is_json(form: str) -> bool:
    """Return whether JSON is wanted.

    Raises:
        SeismogradError: it is neither of the two.
    """
    return one_of("--format", form, FORMATS) == "json"
