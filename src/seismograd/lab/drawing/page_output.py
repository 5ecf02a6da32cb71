"""Write a page in the format that a file name asks for."""

from __future__ import annotations

from pathlib import Path

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.lab.lab_page import Chart, Page, Picture
from seismograd.settings.output_file import check_output_file

SUFFIXES = (".html", ".png", ".svg")


def check(path: Path) -> None:
    """Reject a file that could not be written, before anything is measured.

    Raises:
        SeismogradError: its format is unknown, its folder does not exist, or the library that draws
            it is not installed.
    """
    check_output_file(path, SUFFIXES)
    if path.suffix.lower() == ".png":
        from seismograd.lab.drawing import page_png

        page_png.check()


def write(page: Page, path: Path) -> None:
    """Write the page (`.html`) or its figures (`.svg`, `.png`).

    Raises:
        SeismogradError: the page has no chart, or the file cannot be written.
    """
    figures = [block for block in page.blocks if isinstance(block, Chart | Picture)]
    if not figures and path.suffix.lower() != ".html":
        raise SeismogradError(
            say("this experiment has no chart"),
            say("write the page instead: --out {path}", path=path.with_suffix(".html").name),
        )
    try:
        _write(page, figures, path)
    except OSError as error:
        raise SeismogradError(
            say("cannot write {path}: {error}", path=str(path), error=str(error))
        ) from error


def _write(page: Page, figures: list[Chart | Picture], path: Path) -> None:
    from seismograd.lab.drawing import figures_svg, page_html, page_png

    match path.suffix.lower():
        case ".html":
            path.write_text(page_html.render(page), encoding="utf-8")
        case ".svg":
            path.write_text(figures_svg.stack(figures), encoding="utf-8")
        case _:
            page_png.write(figures, path)
