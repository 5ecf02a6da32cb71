"""The list of report formats, by the extension of the file. To add one: a file that renders it, and
a line here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.views.page_api.run_source import RunSource
from seismograd.views.report import report_html, report_json, report_markdown

REPORT_FORMATS: Mapping[str, Callable[[RunSource], str]] = {
    ".html": report_html.render,
    ".md": report_markdown.render,
    ".json": report_json.render,
}


def find_report_format(path: Path) -> Callable[[RunSource], str]:
    """Return the renderer for a file of this name.

    Raises:
        SeismogradError: its extension names no format.
    """
    form = REPORT_FORMATS.get(path.suffix.lower())
    if form is None:
        raise SeismogradError(
            say("the report format is not clear from the name {path}", path=str(path)),
            say("use a file name that ends with {ends}", ends=", ".join(REPORT_FORMATS)),
        )
    return form


def write_report(source: RunSource, path: Path) -> int:
    """Write the report and return its size in bytes; an existing file is replaced atomically.

    Raises:
        SeismogradError: the format is unknown, or the file cannot be written.
    """
    data = find_report_format(path)(source).encode("utf-8", "replace")
    new = path.with_name(path.name + ".new")
    try:
        new.write_bytes(data)
        new.replace(path)
    except OSError as error:
        message = say(
            "cannot write {path}: {reason}", path=str(path), reason=error.strerror or str(error)
        )
        raise SeismogradError(message, say("choose another file with -o")) from error
    return len(data)
