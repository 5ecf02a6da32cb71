"""`seismograd view`: the page in a browser, live."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seismograd.cli.terminal.usage_errors import whole_number
from seismograd.errors import SeismogradError
from seismograd.i18n import mark, say, translate


def view(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="[RUN|DIR]",
            help=mark("A run, or a directory of runs; runs/ unless given."),
            show_default=False,
        ),
    ] = Path("runs"),
    host: Annotated[
        str,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            help=mark("The address to listen on; only this machine unless given."),
        ),
    ] = "127.0.0.1",
    port: Annotated[
        str | None,
        typer.Option(
            "--port", metavar="N", help=mark("The port; 7878, or a free one, unless given.")
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            help=mark("Another name that the page may be opened under. Repeatable."),
        ),
    ] = None,
    no_open: Annotated[
        bool, typer.Option("--no-open", help=mark("Do not open a browser."))
    ] = False,
) -> None:
    """Show runs in a browser, also while they go on; until Ctrl-C."""
    from seismograd.record.compatibility import is_run

    number = whole_number("--port", port)
    if number is not None and not 0 <= number <= 65535:
        raise SeismogradError(
            say("there is no port {port}", port=number), say("ports go from 0, any, to 65535")
        )
    if path.is_file() or (not is_run(path) and (path / "meta.json").exists()):
        from seismograd.record.reader import open_run

        open_run(path)  # says what is wrong with it
    if not path.is_dir():
        raise SeismogradError(
            say("there is no directory {directory}", directory=str(path)),
            say("record a run with: seismograd run train.py"),
        )
    try:
        from seismograd.views.web.server import serve
    except ModuleNotFoundError as missing:
        if (missing.name or "").split(".")[0] not in ("starlette", "uvicorn", "sse_starlette"):
            raise
        raise SeismogradError(
            say("the page needs {package}, which is not installed", package=str(missing.name)),
            say("pip install 'seismograd[view]'; `seismograd report` writes the page without it"),
        ) from missing
    serve(path, host, number, tuple(allow or ()), not no_open, _tell)


def _tell(address: str) -> None:
    print(translate("The page is at {address}").format(address=address), flush=True)
    print(
        translate("Whoever has this address can read the runs. Ctrl-C ends the server."), flush=True
    )
