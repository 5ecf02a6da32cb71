"""`seismograd fsck`: compare a record with its checksums, and mend it."""

from __future__ import annotations

from typing import Annotated

import typer

from seismograd.cli.chosen_run import RunArgument, chosen_run
from seismograd.cli.terminal.format_option import FormatOption, is_json
from seismograd.errors import SeismogradError
from seismograd.i18n import mark, say
from seismograd.record.places.place_url import is_url

MendOption = Annotated[
    bool,
    typer.Option(
        "--mend",
        help=mark(
            "Remove damaged lines and summaries, and count numbers without a checksum as right. "
            "Altered numbers stay, and are not shown."
        ),
    ),
]


def fsck(run: RunArgument = None, mend: MendOption = False, form: FormatOption = "text") -> int:
    """Compare all of a recorded run and of its branches with its checksums; the exit code is 1 when
    anything is damaged.
    """
    from seismograd.cli.terminal import output
    from seismograd.record import mending
    from seismograd.record.inspection import inspect
    from seismograd.record.run_activity import is_going_on
    from seismograd.views.damage_list import as_json, render
    from seismograd.views.values import short_path

    in_json = is_json(form)
    if mend and run is not None and is_url(run):
        raise SeismogradError(
            say("a record at a place cannot be mended there"),
            say("mend it on the machine that it was sent from, then: seismograd upload RUN URL"),
        )
    path = chosen_run(run)
    if mend and is_going_on(path):
        raise SeismogradError(
            say("{path} is still being written, so it cannot be mended now", path=str(path)),
            say("wait until the training has ended, or a minute after it was killed"),
        )
    found = inspect(path)
    if mend and found.all_damage:
        try:
            mending.mend(found)
        except OSError as error:
            raise SeismogradError(
                say(
                    "cannot mend {path}: {reason}",
                    path=str(path),
                    reason=error.strerror or str(error),
                )
            ) from error
        found = inspect(path)
    output.answer(as_json(found) if in_json else render(found))
    if not in_json:
        output.print_condition(found.run)
    if found.all_damage and not mend:
        output.suggest(f"seismograd fsck {short_path(path)} --mend")
    return 1 if found.all_damage else 0
