"""The forms of a report, by the end of the file's name. A new one is a file that renders it, and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.views.report import as_json, html, markdown
from seismograd.views.source.source import RunSource

FORMS: Mapping[str, Callable[[RunSource], str]] = {".html": html.render, ".md": markdown.render, ".json": as_json.render}


def find_form(path: Path) -> Callable[[RunSource], str]:
    """What renders a file of this name.

    Raises:
        SeismogradError: its end names no form.
    """
    form = FORMS.get(path.suffix.lower())
    if form is None:
        raise SeismogradError(
            say("{path} does not say which form the report has", path=str(path)), say("end the name with {ends}", ends=", ".join(FORMS))
        )
    return form


def write_report(source: RunSource, path: Path) -> int:
    """Write the report and return its size in bytes; a file of that name is replaced, at once and whole.

    Raises:
        SeismogradError: the form is not known, or the file cannot be written.
    """
    data = find_form(path)(source).encode("utf-8", "replace")
    new = path.with_name(path.name + ".new")
    try:
        new.write_bytes(data)
        new.replace(path)
    except OSError as error:
        message = say("cannot write {path}: {reason}", path=str(path), reason=error.strerror or str(error))
        raise SeismogradError(message, say("name another file with -o")) from error
    return len(data)
