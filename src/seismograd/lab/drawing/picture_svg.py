"""Draw matrices as SVG, a square for each scalar."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from seismograd.lab.lab_page import Panel, Picture, cell_text, number

WIDTH, GAP, CAPTION = 720, 24, 22
LARGEST_CELL = 18
ABOVE, BELOW, NOT_FINITE = "#0969da", "#cf222e", "#bf3989"


def height_of(picture: Picture) -> int:
    """Return the height of the drawing in pixels."""
    cell = _cell(picture)
    return CAPTION + round(cell * max(len(panel.values) for panel in picture.panels)) + 4


def draw(picture: Picture) -> str:
    """Return the drawing, `WIDTH` pixels wide, as an `<svg>` element with the title for screen
    readers.
    """
    parts: list[str] = []
    left, cell = 0.0, _cell(picture)
    for panel in picture.panels:
        parts.append(
            f'<g transform="translate({left:.1f} 0)">' + "".join(_panel(panel, cell)) + "</g>"
        )
        left += cell * len(panel.values[0]) + GAP
    height = height_of(picture)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 '
        f'{WIDTH} {height}" role="img" font-family="sans-serif" font-size="12" '
        f'fill="currentColor"><title>{escape(picture.title.render())}</title>'
        + "".join(parts)
        + "</svg>"
    )


def _cell(picture: Picture) -> float:
    columns = sum(len(panel.values[0]) for panel in picture.panels)
    room = WIDTH - GAP * (len(picture.panels) - 1)
    return min(LARGEST_CELL, room / columns)


def _panel(panel: Panel, cell: float) -> Iterator[str]:
    caption = f"{cell_text(panel.name)} (±{number(panel.largest, 2)})"
    yield f'<text x="0" y="14">{escape(caption)}</text>'
    width, height = cell * len(panel.values[0]), cell * len(panel.values)
    yield (
        f'<rect x="0" y="{CAPTION}" width="{width:.1f}" height="{height:.1f}" fill="#ffffff" '
        'stroke="#8c959f" stroke-width="0.5"/>'
    )
    for row, values in enumerate(panel.values):
        for column, value in enumerate(values):
            depth = panel.depth(value)
            if depth == 0:
                continue
            color = NOT_FINITE if depth is None else ABOVE if depth > 0 else BELOW
            opacity = 1.0 if depth is None else abs(depth)
            yield (
                f'<rect x="{column * cell:.1f}" y="{CAPTION + row * cell:.1f}" width="{cell:.1f}" '
                f'height="{cell:.1f}" fill="{color}" fill-opacity="{opacity:.2f}"/>'
            )
