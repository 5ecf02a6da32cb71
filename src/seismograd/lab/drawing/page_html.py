"""A page as one self-contained HTML file: no script, nothing from a network."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from seismograd.i18n import language, translate
from seismograd.lab.drawing import chart_svg, picture_svg
from seismograd.lab.lab_page import (
    Block,
    Chart,
    CodeBlock,
    Heading,
    Page,
    PageTable,
    Paragraph,
    Picture,
    cell_text,
)

STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
figure { margin: 1.5rem 0 }
svg { max-width: 100%; height: auto }
figcaption { font-weight: 600 }
pre { padding: .6rem .8rem; background: #8881; overflow-x: auto }
"""


def style() -> str:
    """Return the style sheet; lines of charts are brighter in the dark."""
    in_the_dark = "".join(
        f".line-{number} {{ stroke: {colour} }} .mark-{number} {{ fill: {colour} }}\n"
        for number, colour in enumerate(chart_svg.ON_DARK)
    )
    return f"{STYLE}@media (prefers-color-scheme: dark) {{\n{in_the_dark}}}\n"


def render(page: Page) -> str:
    """Return the file's content, in the current language."""
    return "\n".join(_lines(page)) + "\n"


def _lines(page: Page) -> Iterator[str]:
    title = escape(page.title.render())
    yield f'<!doctype html>\n<html lang="{language()}">\n<head>\n<meta charset="utf-8">'
    yield (
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src '
        "'unsafe-inline'\">"
    )
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title>\n<style>{style()}</style>\n</head>\n<body>\n<h1>{title}</h1>"
    for block in page.blocks:
        yield from _block(block)
    yield f"<h2>{escape(translate('To remember:').rstrip(':：'))}</h2>"
    yield f"<p><strong>{escape(page.remember.render())}</strong></p>"
    yield f"<h2>{escape(translate('Try next:').rstrip(':：'))}</h2>"
    for text, code in page.following:
        yield f"<p>{escape(text.render())}</p>\n<pre>{escape(code)}</pre>"
    yield "</body>\n</html>"


def _block(block: Block) -> Iterator[str]:
    match block:
        case Heading():
            yield f"<h2>{escape(block.text.render())}</h2>"
        case Paragraph():
            yield f"<p>{escape(block.text.render())}</p>"
        case CodeBlock():
            yield f"<pre>{escape(block.text)}</pre>"
        case PageTable():
            yield from _table(block)
        case Chart():
            yield _figure(block.title.render(), chart_svg.draw(block))
        case Picture():
            yield _figure(block.title.render(), picture_svg.draw(block))


def _figure(title: str, drawing: str) -> str:
    return f"<figure><figcaption>{escape(title)}</figcaption>\n{drawing}</figure>"


def _table(table: PageTable) -> Iterator[str]:
    yield (
        "<table>\n<tr>"
        + "".join(f"<th>{escape(cell_text(heading))}</th>" for heading in table.headings)
        + "</tr>"
    )
    for row in table.rows:
        yield "<tr>" + "".join(f"<td>{escape(cell_text(cell))}</td>" for cell in row) + "</tr>"
    yield "</table>"
