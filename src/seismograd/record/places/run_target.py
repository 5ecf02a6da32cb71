"""Where a new run goes: a directory, or a place together with a directory to write in."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.record.places.place_packages import require_lasting, require_packages
from seismograd.record.places.place_url import PlaceUrl, place_of
from seismograd.record.places.stored_names import STATUS, is_record_file
from seismograd.record.run_directory import create_run_directory, named_directory

if TYPE_CHECKING:
    from seismograd.record.places.running_upload import RunningUpload

WAIT_S = 30.0
_MOST_STATUS = 2**16  # bytes


@dataclass(frozen=True, slots=True)
class RunTarget:
    """A directory that the user named, `None` for a new one; or a place. `spool`: the directory in
    which what goes to the place is written. `wait_s`: how long the end of the program waits for the
    place.
    """

    directory: Path | None = None
    place: PlaceUrl | None = None
    spool: Path | None = None
    wait_s: float = WAIT_S

    def ending_with(self, ending: str) -> RunTarget:
        """Return the target beside this one."""
        directory, place = self.directory, self.place
        if directory is not None:
            directory = directory.with_name(f"{directory.name}{ending}")
        if place is not None and place.name:
            place = place.beside(ending)
        return RunTarget(directory, place, self.spool, self.wait_s)

    def base(self, script: str) -> Path:
        """Return the directory of a new run as it would be named."""
        name = "" if self.place is None else self.place.name
        return named_directory(self.directory, script, self.spool, name)

    def begin(self, script: str, starts_others: bool = False) -> tuple[Path, RunningUpload | None]:
        """Create the directory of a new run; where it goes to a place, begin to send it, and what
        processes that the program starts record beside it.

        Raises:
            SeismogradError: it is not empty, or cannot be written.
        """
        place = self.place
        if place is None:
            return create_run_directory(self.directory, script), None
        from seismograd.record.places.running_upload import RunningUpload

        path = create_run_directory(None, script, self.spool, place.name)
        url = place if place.name else place.child(path.name)
        return path, RunningUpload(path, url, self.wait_s, starts_others)


def upload_again(path: Path, wait_s: float | None = None) -> RunningUpload | None:
    """Go on sending a record that goes on; `None` where it was going to no place, or to one that
    nothing here reaches any more. Loads no NumPy.
    """
    try:
        with (path / STATUS).open("rb") as file:
            url = place_of(str(json.loads(file.read(_MOST_STATUS))["url"]))
        if url is None:
            return None
        require_packages(url)
    except (OSError, ValueError, KeyError, TypeError, SeismogradError):
        return None
    from seismograd.record.places.running_upload import RunningUpload

    return RunningUpload(path, url, WAIT_S if wait_s is None else wait_s)


def run_target(
    out: str | Path | None,
    spool: str | Path | None = None,
    wait_s: float | None = None,
    folder: str | None = None,
) -> RunTarget:
    """Return the target that options name: `--out`, `--spool`, `--upload-wait`, and the folder of
    the project, an URL, where there is no `--out`.

    Raises:
        SeismogradError: they contradict each other, or what the place needs is not installed.
    """
    if out is None and folder is not None:
        out = f"{folder.rstrip('/')}/"
    place = place_of(out)
    if place is None:
        if spool is not None:
            raise SeismogradError(
                say("--spool is for records that go to the URL of a place"),
                say("give the directory with --out"),
            )
        return RunTarget(None if out is None else Path(out))
    if place.name and not is_record_file(place.name):
        raise SeismogradError(
            say("{url} is not an URL of a place", url=place.shown),
            say("for example s3://bucket/runs/first"),
        )
    require_lasting(place)
    require_packages(place)
    wait_s = WAIT_S if wait_s is None else wait_s
    if not (math.isfinite(wait_s) and wait_s >= 0):
        raise SeismogradError(
            say("--upload-wait needs a number of seconds, not {value}", value=wait_s),
            say("for example 30"),
        )
    return RunTarget(None, place, None if spool is None else Path(spool), wait_s)
