"""Draw a seismogram as shapes: a band per channel, as high as its gradient is large, and in it the
trace.

The shapes are those of SVG. Their colors are classes of `views/page/seismogram.css`, so that the
page gives them in the light and in the dark, and none of them needs a language.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from seismograd.analysis.medians import median
from seismograd.schema import BoolArray, FloatArray
from seismograd.views.seismogram.channels import Channel, Mark, Seismogram
from seismograd.views.values import number

NAMESPACE = "http://www.w3.org/2000/svg"
WIDTH, LEFT, RIGHT = 1000, 190, 76
TOP, BOTTOM = 22, 26
LOSS = 40
TALLEST, LOWEST, ALL = 46, 15, 560
MOST_COLUMNS = 360
FULL_SWING = 0.3  # decades at which a trace reaches the edge of its band
_AROUND = 20  # columns
_LETTER = 7.4  # the width of one at 13.5 px
_SHORTEST = 0.6  # half of the height of a trace that is not zero
_SEVERITIES = ("", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Shape:
    """An element of SVG: its name, its attributes, and its text or the shapes in it."""

    tag: str
    attributes: dict[str, str]
    text: str = ""
    inner: tuple[Shape, ...] = ()


def draw(seismogram: Seismogram) -> list[Shape]:
    """Return the picture, `WIDTH` wide and `height_of` high."""
    tall, scale = channel_height(seismogram), (seismogram.smallest, seismogram.largest)
    shapes = [*_epochs(seismogram), *_loss(seismogram)]
    said: set[str] = set()
    for position, channel in enumerate(seismogram.channels):
        middle = TOP + LOSS + tall * (position + 0.5)
        inner = [
            Shape("title", {}, channel.label),
            _path("rule", f"M{LEFT} {middle + tall / 2:.1f}H{WIDTH - RIGHT}"),
            _text(LEFT - 8, middle + 4, _cut(channel.label), "name", "end"),
            *_trace(channel, middle, tall, scale),
            *_breaks(channel.nonfinite, middle, tall),
            _text(WIDTH - RIGHT + 8, middle + 4, number(channel.typical, 2), "dim"),
        ]
        for mark in channel.marks:
            inner += _mark(mark, len(channel.high), middle, tall, mark.code not in said)
            said.add(mark.code)
        shapes.append(Shape("g", {"data-column": str(channel.column)}, "", tuple(inner)))
    bottom = TOP + LOSS + tall * len(seismogram.channels)
    first, last = seismogram.steps
    return [
        *shapes,
        _text(LEFT, bottom + 16, str(first), "dim"),
        _text(WIDTH - RIGHT, bottom + 16, str(last), "dim", "end"),
    ]


def channel_height(seismogram: Seismogram) -> float:
    """Return the height of a channel: less where there are many."""
    return max(LOWEST, min(TALLEST, ALL / max(1, len(seismogram.channels))))


def height_of(seismogram: Seismogram) -> int:
    """Return the height of the picture."""
    return round(TOP + LOSS + channel_height(seismogram) * len(seismogram.channels) + BOTTOM)


def _epochs(seismogram: Seismogram) -> Iterator[Shape]:
    """Yield a line down all channels where an epoch begins."""
    down = height_of(seismogram) - BOTTOM - TOP
    for column in seismogram.epochs:
        yield _path("epoch", f"M{_x(column, len(seismogram.loss)):.1f} {TOP}v{down}")


def _x(column: float, num_columns: int) -> float:
    return LEFT + (WIDTH - RIGHT - LEFT) * column / max(1, num_columns)


def _loss(seismogram: Seismogram) -> Iterator[Shape]:
    values = np.where(np.isfinite(seismogram.loss), seismogram.loss, np.nan)
    known = values[~np.isnan(values)]
    middle, tall = TOP + LOSS / 2 - 4, LOSS - 8
    if len(known) or seismogram.loss_is_lost.any():
        yield _text(LEFT - 8, TOP + 16, "loss", "dim", "end")
        yield from _loss_line(values, known)
        yield from _breaks(seismogram.loss_is_lost, middle, tall)
        is_lost = bool(seismogram.loss_is_lost[-1])
        last = "NaN/Inf" if is_lost else number(float(known[-1]), 3)
        yield _text(WIDTH - RIGHT + 8, TOP + 16, last, "lost" if is_lost else "dim")
    for mark in seismogram.marks:
        yield from _mark(mark, len(values), middle, tall, True)


def _loss_line(values: FloatArray, known: FloatArray) -> Iterator[Shape]:
    if not len(known):
        return
    low, high = float(known.min()), float(np.percentile(known, 99))
    share = np.clip((values - low) / ((high - low) or 1.0), 0, 1.05)
    for run in _stretches(~np.isnan(values)):
        yield _path("loss", _line(run, len(values), TOP + (LOSS - 10) * (1 - share)))


def _trace(
    channel: Channel, middle: float, tall: float, scale: tuple[float, float]
) -> Iterator[Shape]:
    """Yield a band as high as the norm is large, and in it the trace: how far the norm is from its
    usual size around that column. Both in the color of the finding where there is one.
    """
    num = len(channel.high)
    half = _halves(channel.high, tall / 2 - 1, scale)
    swing = half * np.clip(_deviations(channel) / FULL_SWING, -1, 1)
    kinds = np.zeros(num, np.int64)
    for mark in channel.marks:
        kinds[mark.first : mark.last + 1] = np.maximum(
            kinds[mark.first : mark.last + 1], _SEVERITIES.index(mark.severity)
        )
    seen = ~np.isnan(half) & ~channel.zero
    for kind, severity in enumerate(_SEVERITIES):
        for run in _stretches(seen & (kinds == kind)):
            if run.stop < num and seen[run.stop]:
                run = range(run.start, run.stop + 1)  # up to where the next one begins
            yield _path(f"band {severity}".strip(), _band(run, num, middle, half))
            yield _path(f"trace {severity}".strip(), _line(run, num, middle - swing))
    for run in _stretches(channel.zero):
        yield _path("zero", f"M{_x(run[0], num):.1f} {middle:.1f}H{_x(run[-1] + 1, num):.1f}")


def _line(columns: Sequence[int], num: int, heights: FloatArray) -> str:
    """Return the path through these columns; a single one is as long as it is wide."""
    points = [(_tenths(_x(at + 0.5, num)), _tenths(heights[at])) for at in columns]
    if len(points) == 1:
        (_, y), at = points[0], columns[0]
        points = [(_tenths(_x(at, num)), y), (_tenths(_x(at + 1, num)), y)]
    return _way(points)


def _band(columns: Sequence[int], num: int, middle: float, half: FloatArray) -> str:
    """Return the outline: above the middle there, below it back."""
    edges = columns if len(columns) > 1 else (columns[0], columns[0])
    xs = [_tenths(_x(at + 0.5, num)) for at in edges]
    if len(columns) == 1:
        xs = [_tenths(_x(columns[0] + part, num)) for part in (0, 1)]
    above = [(x, _tenths(middle - half[at])) for x, at in zip(xs, edges, strict=True)]
    below = [(x, _tenths(middle + half[at])) for x, at in zip(xs, edges, strict=True)]
    return f"{_way([*above, *reversed(below)])}z"


def _way(points: Sequence[tuple[int, int]]) -> str:
    """Return the path through points in tenths, each from the one before: a third as long."""
    (x, y), steps = points[0], list[str]()
    for before, after in pairwise(points):
        steps.append(f"{(after[0] - before[0]) / 10:g} {(after[1] - before[1]) / 10:g}")
    return f"M{x / 10:g} {y / 10:g}l{' '.join(steps)}"


def _tenths(place: float) -> int:
    return round(10 * float(place))


def _halves(norms: FloatArray, room: float, scale: tuple[float, float]) -> FloatArray:
    """Return half of the height of a band: linear in the logarithm of the norm."""
    smallest, largest = scale
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.log(norms / smallest) / np.log(largest / smallest)
    return np.where(np.isnan(norms), np.nan, _SHORTEST + (room - _SHORTEST) * np.clip(share, 0, 1))


def _deviations(channel: Channel) -> FloatArray:
    """Return by how many decades the norm is above its median over the columns around  # (C,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.log10(channel.high)
    size[~np.isfinite(size)] = np.nan
    return np.array(
        [
            size[at] - median(size[max(0, at - _AROUND) : at + _AROUND + 1])
            for at in range(len(size))
        ]
    )


def _breaks(lost: BoolArray, middle: float, tall: float) -> Iterator[Shape]:
    """Yield a red break over every stretch that was not finite."""
    top, high = f"{middle - tall / 2 + 1:.1f}", f"{tall - 2:.1f}"
    for run in _stretches(lost):
        left, right = _x(run[0], len(lost)), _x(run[-1] + 1, len(lost))
        place = {"x": f"{left:.1f}", "y": top, "height": high, "width": f"{right - left:.1f}"}
        yield Shape("rect", {"class": "lost", "fill-opacity": ".25", "stroke": "none", **place})
        yield _path("lost", f"M{left:.1f} {top}v{high}")


def _mark(mark: Mark, num: int, middle: float, tall: float, with_code: bool) -> Iterator[Shape]:
    """Yield a triangle where a finding begins, and its code where that was not written yet."""
    x, y = _x(mark.first, num), middle - tall / 2 + 1
    kind = f"mark {mark.severity}"
    inner = (Shape("title", {}, mark.code),)
    yield Shape("path", {"class": kind, "d": f"M{x - 4:.1f} {y:.1f}h8l-4 7z"}, "", inner)
    if with_code:
        is_late = x > WIDTH - RIGHT - 60
        anchor = "end" if is_late else "start"
        side = x - 8 if is_late else x + 8
        yield _text(side, y + 9, mark.code, f"code {mark.severity}", anchor)


def _stretches(wanted: BoolArray) -> Iterator[range]:
    """Yield the ranges of columns in which it is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], wanted, [False]]).astype(np.int8)))
    yield from (range(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True))


def _cut(label: str) -> str:
    most = int((LEFT - 16) / _LETTER)
    return label if len(label) <= most else f"{label[: most // 2 - 1]}…{label[-(most // 2) :]}"


def _path(kind: str, way: str) -> Shape:
    return Shape("path", {"class": kind, "d": way})


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> Shape:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
    return Shape("text", {"class": kind, **place}, text)
