"""`seismograd view`: show the page in a browser, live."""

from __future__ import annotations

from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer

from seismograd.cli.chosen_run import named_like
from seismograd.cli.fetched_runs import fetched_runs, keep_fetching
from seismograd.cli.terminal.usage_errors import whole_number
from seismograd.errors import SeismogradError
from seismograd.i18n import mark, say, translate


def view(
    run: Annotated[
        str,
        typer.Argument(
            metavar="[RUN|DIR|URL]",
            help=mark(
                "A run, the beginning of its name in runs/, or a directory of runs (default: "
                "runs/); or the URL of one at a place, which is fetched every ten seconds."
            ),
            show_default=False,
        ),
    ] = "runs",
    host: Annotated[
        str,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            help=mark("The address to listen on. By default only this machine can connect."),
        ),
    ] = "127.0.0.1",
    port: Annotated[
        str | None,
        typer.Option(
            "--port",
            metavar="N",
            help=mark("The port (default: 7878, or a free port if it is taken)."),
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            help=mark("Another host name under which the page may be opened. Repeatable."),
        ),
    ] = None,
    no_open: Annotated[
        bool, typer.Option("--no-open", help=mark("Do not open a browser."))
    ] = False,
) -> None:
    """Show runs in a browser, also while they are recorded; until Ctrl-C."""
    number = whole_number("--port", port)
    if number is not None and not 0 <= number <= 65535:
        raise SeismogradError(
            say("{port} is not a valid port", port=number),
            say("use a port from 0 (any free port) to 65535"),
        )
    if not host.strip():
        raise SeismogradError(
            say("--host needs an address"), say("for example 127.0.0.1, or 0.0.0.0 for all")
        )
    path = fetched_runs(run) or Path(run)
    if not path.exists():
        path = named_like(path) or path
    _check_directory(path)
    try:
        from seismograd.views.web.server import serve
    except ModuleNotFoundError as missing:
        if (missing.name or "").split(".")[0] not in ("starlette", "uvicorn", "sse_starlette"):
            raise
        raise SeismogradError(
            say("the page needs {package}, which is not installed", package=str(missing.name)),
            say(
                "pip install starlette uvicorn sse-starlette, or use `seismograd report`, which "
                "writes the page without them"
            ),
        ) from missing
    keep_fetching(run)
    serve(path, host, number, tuple(allow or ()), not no_open, partial(_print_address, host))


def _check_directory(path: Path) -> None:
    """Raise where there can be no run: before the server starts."""
    from seismograd.record.compatibility import is_run

    if path.is_file() or (not is_run(path) and (path / "meta.json").exists()):
        from seismograd.record.reader import open_run

        open_run(path)  # reports what is wrong with it
    if not path.is_dir():
        raise SeismogradError(
            say("directory {directory} does not exist", directory=str(path)),
            say("record a run with: seismograd run train.py"),
        )


def _print_address(host: str, address: str) -> None:
    print(translate("The page is available at {address}").format(address=address), flush=True)
    print(
        translate("Anyone with this address can read the runs. Press Ctrl-C to stop the server."),
        flush=True,
    )
    if not _is_of_this_machine(host):
        note = translate(
            "note: other machines can reach this address, and the connection is not encrypted; "
            "`ssh -L` is safer"
        )
        print(note, flush=True)


def _is_of_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
