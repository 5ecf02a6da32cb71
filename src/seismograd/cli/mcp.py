"""`seismograd mcp`: let a language model ask about runs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from seismograd.errors import SeismogradError
from seismograd.i18n import mark, say


def mcp(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", help=mark("The directory of the runs (default: runs/).")),
    ] = Path("runs"),
) -> None:
    """Serve read-only tools over stdin and stdout, until stdin ends."""
    if importlib.util.find_spec("mcp") is None:
        raise SeismogradError(
            say("the server needs mcp, which is not installed"),
            say("pip install 'seismograd[{extra}]'", extra="mcp"),
        )
    from seismograd.integrations.mcp_server import serve

    serve(directory)
