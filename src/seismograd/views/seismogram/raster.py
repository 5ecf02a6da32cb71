"""Draw the shapes of a seismogram as PNG, with matplotlib."""

from __future__ import annotations

import importlib.util
import io
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.views.seismogram.drawing import WIDTH, Shape

COLORS = {
    "error": "#b3261e",
    "warning": "#8a5a00",
    "info": "#0b5cad",
    "lost": "#d81b1b",
    "dim": "#5a6472",
    "zero": "#5a6472",
    "rule": "#e3e6ea",
    "epoch": "#9aa3ad",
    "band": "#0b5cad",
    "trace": "#0b5cad",
}
TEXT = "#1a1d21"
_DASHES = {"zero": (0, (2, 3)), "epoch": (0, (1, 5))}
_DPI = 200
_COMMAND = re.compile(r"([MLHvhlz])([^MLHvhlz]*)")


def as_png(shapes: list[Shape], height: int) -> bytes:
    """Return the picture as a PNG file, light, at twice its size.

    Raises:
        SeismogradError: matplotlib is missing.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise SeismogradError(
            say("writing a PNG file needs matplotlib, which is not installed"),
            say("pip install matplotlib, or write an .svg file, which needs no other package"),
        )
    figure_module: Any = import_module("matplotlib.figure")
    figure = figure_module.Figure(figsize=(WIDTH / 100, height / 100), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(height, 0)
    axes.axis("off")
    for shape in shapes:
        _add(axes, shape, 0)
    file = io.BytesIO()
    figure.savefig(file, format="png", facecolor="white")
    return file.getvalue()


def _add(axes: Any, shape: Shape, down: float) -> None:
    given = shape.attributes
    kinds = given.get("class", "").split()
    color = next((COLORS[kind] for kind in reversed(kinds) if kind in COLORS), TEXT)
    if shape.tag == "g":
        moved = re.fullmatch(r"translate\(0 (\d+)\)", given.get("transform", ""))
        for inner in shape.inner:
            _add(axes, inner, down + (float(moved[1]) if moved else 0))
    elif shape.tag == "text":
        axes.text(
            float(given["x"]),
            float(given["y"]) + down,
            shape.text,
            color=color,
            fontsize=11 if "title" in kinds else 8.4,
            fontweight="bold" if {"title", "code"} & set(kinds) else "normal",
            ha="right" if given["text-anchor"] == "end" else "left",
        )
    elif shape.tag == "rect" and "back" not in kinds:
        x, y = float(given["x"]), float(given["y"]) + down
        right, bottom = x + float(given["width"]), y + float(given["height"])
        axes.fill([x, right, right, x], [y, y, bottom, bottom], color=color, alpha=0.25, lw=0)
    elif shape.tag == "path":
        xs, ys = zip(*points_of(given["d"]), strict=True)
        moved_ys = [y + down for y in ys]
        if {"band", "mark"} & set(kinds):
            axes.fill(xs, moved_ys, color=color, alpha=0.2 if "band" in kinds else 1, lw=0)
        else:
            style = _DASHES.get(kinds[0], "solid")
            axes.plot(xs, moved_ys, color=color, lw=0.7, ls=style)


def points_of(way: str) -> Iterator[tuple[float, float]]:
    """Yield the corners of a path of straight lines."""
    x = y = 0.0
    for command, text in _COMMAND.findall(way):
        numbers = [float(each) for each in re.findall(r"-?[\d.]+(?:e-?\d+)?", text)]
        match command:
            case "M" | "L":
                x, y = numbers
            case "l":
                for right, down in zip(numbers[::2], numbers[1::2], strict=True):
                    x, y = x + right, y + down
                    yield x, y
                continue
            case "H":
                x = numbers[0]
            case "h":
                x += numbers[0]
            case "v":
                y += numbers[0]
            case _:
                continue
        yield x, y
