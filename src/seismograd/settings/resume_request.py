"""In which record a training goes on, as the command line and `watch` say it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from seismograd.errors import SeismogradError
from seismograd.i18n import say

_AT_A_STEP = re.compile(r"(.+)@(\d{1,15})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ResumeRequest:
    """The directory of a record, and the step that its training goes on with; `None`: as what the
    script loads shows.
    """

    path: Path
    step: int | None = None


def parse_resume(text: str | Path | None) -> ResumeRequest | None:
    """Return the request in `RUN` or `RUN@STEP`; only looks whether there is such a record, because
    it is called before the script runs.

    Raises:
        SeismogradError: there is none.
    """
    if text is None:
        return None
    path, step = Path.cwd() / text, None
    found = _AT_A_STEP.fullmatch(str(text))
    if found is not None and not path.exists():
        path, step = Path.cwd() / found[1], int(found[2])
    if not (path / "meta.json").is_file():
        raise SeismogradError(
            say("there is no run at {path}", path=str(path)),
            say("`seismograd runs` lists the runs under runs/"),
        )
    return ResumeRequest(path, step)


def require_no_directory(request: ResumeRequest | None, out: str | Path | None) -> None:
    """Check that no directory for a new record is named beside the one that goes on.

    Raises:
        SeismogradError: one is.
    """
    if request is not None and out is not None:
        raise SeismogradError(
            say("--resume goes on in a record, --out begins one"), say("leave one of them out")
        )
