"""All figures of a page as one SVG file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from seismograd.lab.drawing import chart_svg, picture_svg
from seismograd.lab.lab_page import Chart, Picture

_TITLE = 30  # pixels for the title above a figure


def stack(figures: Sequence[Chart | Picture]) -> str:
    """Return the figures below each other, each under its title, as one SVG file."""
    parts: list[str] = []
    top = 0
    for figure in figures:
        if isinstance(figure, Chart):
            drawing, height = chart_svg.draw(figure), chart_svg.height_of(figure)
        else:
            drawing, height = picture_svg.draw(figure), picture_svg.height_of(figure)
        parts.append(
            f'<text x="10" y="{top + 20}" font-weight="bold">{escape(figure.title.render())}</text>'
        )
        parts.append(f'<g transform="translate(0 {top + _TITLE})">{drawing}</g>')
        top += _TITLE + height
    width = chart_svg.WIDTH
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top}" viewBox="0 0 '
        f'{width} {top}" font-family="sans-serif"'
        ' font-size="12" color="#1f2328" fill="currentColor"><rect width="100%" height="100%" '
        'fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )
