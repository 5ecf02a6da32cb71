"""Draw a chart as SVG: no script, no font of its own, colors that suit light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from seismograd.lab.drawing.chart_axes import axes, bar_axis
from seismograd.lab.lab_page import Chart, cell_text, number
from seismograd.views.text_layout import cell_width

WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 90, 20, 20, 60
COLOURS = ("#0969da", "#bc4c00", "#8250df", "#1a7f37", "#cf222e", "#57606a")
ON_DARK = ("#58a6ff", "#ffa657", "#d2a8ff", "#56d364", "#ff7b72", "#b1bac4")
BAR = 18
_LEGEND_LINE, _LETTER, _BETWEEN = 16, 7, 24  # pixels


def height_of(chart: Chart) -> int:
    """Return the height of the drawing in pixels."""
    if chart.kind == "bars":
        return TOP + BAR * len(chart.labels) + BOTTOM
    return HEIGHT + _LEGEND_LINE * max((line for _, line in _legend_places(chart)), default=0)


def draw(chart: Chart) -> str:
    """Return the drawing, `WIDTH` pixels wide, as an `<svg>` element with the title for screen
    readers.
    """
    parts = "\n".join(_bars(chart) if chart.kind == "bars" else _lines(chart))
    height = height_of(chart)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 '
        f'{WIDTH} {height}" role="img"'
        ' font-family="sans-serif" font-size="12" '
        f'fill="currentColor"><title>{escape(chart.title.render())}</title>\n{parts}\n</svg>'
    )


def _lines(chart: Chart) -> Iterator[str]:
    across, up = axes(chart)

    def x_of(position: float) -> float:
        return LEFT + position * (WIDTH - LEFT - RIGHT)

    def y_of(position: float) -> float:
        return TOP + (1 - position) * (HEIGHT - TOP - BOTTOM)

    for value, text in up.marks():
        y = y_of(up.position(value) or 0.0)
        yield (
            f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="currentColor" '
            'stroke-opacity="0.15"/>'
        )
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>'
    for value, text in across.marks():
        yield (
            f'<text x="{x_of(across.position(value) or 0.0):.1f}" y="{HEIGHT - BOTTOM + 16}" '
            f'text-anchor="middle">{escape(text)}</text>'
        )
    yield (
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - BOTTOM + 34}" '
        f'text-anchor="middle">{escape(cell_text(chart.x_label))}</text>'
    )
    places = _legend_places(chart)
    for position, (series, (x, line)) in enumerate(zip(chart.series, places, strict=True)):
        number_of = position % len(COLOURS)
        colour = COLOURS[position % len(COLOURS)]
        points = [
            (across.position(x), up.position(y)) for x, y in zip(series.xs, series.ys, strict=True)
        ]
        shown = [(x_of(x), y_of(y)) for x, y in points if x is not None and y is not None]
        yield (
            f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in shown)}" fill="none" '
            f'class="line-{number_of}" stroke="{colour}" stroke-width="1.5"/>'
        )
        if len(shown) <= 30:
            yield from (
                f'<circle class="mark-{number_of}" cx="{across_at:.1f}" cy="{y:.1f}" r="2.5" '
                f'fill="{colour}"/>'
                for across_at, y in shown
            )
        # Only the mark has the color: small text needs more contrast than a line.
        yield (
            f'<text x="{x:.0f}" y="{HEIGHT - 8 + _LEGEND_LINE * line}">'
            f'<tspan class="mark-{number_of}" fill="{colour}">— </tspan>'
            f"{escape(cell_text(series.name))}</text>"
        )


def _legend_places(chart: Chart) -> list[tuple[float, int]]:
    """Return where the name of each series begins, and in which line."""
    places: list[tuple[float, int]] = []
    x, line = float(LEFT), 0
    for series in chart.series:
        wide = _LETTER * (2 + cell_width(cell_text(series.name)))
        if x > LEFT and x + wide > WIDTH - RIGHT:
            x, line = float(LEFT), line + 1
        places.append((x, line))
        x += wide + _BETWEEN
    return places


def _bars(chart: Chart) -> Iterator[str]:
    axis = bar_axis(chart)
    labels = [cell_text(label) for label in chart.labels]
    left = 16 + 7 * max(map(cell_width, labels))
    for row, (label, value) in enumerate(zip(labels, chart.series[0].ys, strict=True)):
        y = TOP + row * BAR
        width = (axis.position(value) or 0.0) * (WIDTH - left - RIGHT - 80)
        yield f'<text x="{left}" y="{y + 13}" text-anchor="end">{escape(label)}</text>'
        yield (
            f'<rect x="{left + 8}" y="{y + 2}" width="{width:.1f}" height="{BAR - 4}" '
            f'class="mark-0" fill="{COLOURS[0]}"/>'
        )
        yield f'<text x="{left + 14 + width:.1f}" y="{y + 13}">{number(value)}</text>'
    yield (
        f'<text x="{left}" '
        f'y="{height_of(chart) - BOTTOM + 20}">{escape(cell_text(chart.x_label))}</text>'
    )
