"""`seismograd upload`: send a record to the URL of a place."""

from __future__ import annotations

from typing import Annotated

import typer

from seismograd.cli.chosen_run import RunArgument, chosen_run
from seismograd.errors import SeismogradError
from seismograd.i18n import mark, say, translate


def upload(
    run: RunArgument = None,
    to: Annotated[
        str | None,
        typer.Argument(
            metavar="[URL]",
            help=mark(
                "Where it goes, such as s3://bucket/runs/first (default: where it was going)."
            ),
            show_default=False,
        ),
    ] = None,
) -> None:
    """Send a recorded run to a place, or what is missing there."""
    from seismograd.cli.terminal import output
    from seismograd.cli.terminal.byte_progress import byte_progress
    from seismograd.record.places.place_url import is_url, place_of
    from seismograd.record.places.upload_now import upload_now

    if run is not None and is_url(run):
        raise SeismogradError(
            say("{url} is at a place already", url=_shown(run)),
            say("name a run on this machine first: seismograd upload RUN URL"),
        )
    path = chosen_run(run)
    url = None if to is None else place_of(to)
    if to is not None and url is None:
        raise SeismogradError(
            say("{url} is not an URL of a place", url=to),
            say("for example s3://bucket/runs/first"),
        )
    with byte_progress() as told:
        sent = upload_now(path, url, told)
    output.answer(translate("the record is at {url}").format(url=sent.shown))
    output.suggest(f"seismograd check {sent.shown}")


def _shown(given: str) -> str:
    from seismograd.record.places.place_url import PlaceUrl

    return PlaceUrl(given).shown
