"""The figures of a page as a PNG file, drawn by matplotlib where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.lab.lab_page import Chart, Picture, cell_text
from seismograd.views.png_fonts import readable_fonts


def check() -> None:
    """Raise where matplotlib is missing, before anything is measured.

    Raises:
        SeismogradError: it is.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise SeismogradError(
            say("writing a PNG file needs matplotlib, which is not installed"),
            say(
                "pip install matplotlib, or write an .svg or .html file, which needs no "
                "other package"
            ),
        )


def write(figures: Sequence[Chart | Picture], path: Path) -> None:
    """Write the figures below each other.

    Raises:
        SeismogradError: matplotlib is missing.
    """
    check()
    matplotlib: Any = import_module("matplotlib")
    matplotlib.use("agg")
    figure_module: Any = import_module("matplotlib.figure")
    with readable_fonts():
        whole = figure_module.Figure(figsize=(8, 4 * len(figures)), layout="constrained")
        rows = whole.subfigures(len(figures), 1, squeeze=False)[:, 0]
        for row, figure in zip(rows, figures, strict=True):
            row.suptitle(figure.title.render())
            if isinstance(figure, Chart):
                _draw(row.subplots(), figure)
            else:
                _draw_panels(row, figure)
        whole.savefig(path, dpi=120)


def _draw_panels(row: Any, picture: Picture) -> None:
    drawn = row.subplots(1, len(picture.panels), squeeze=False)[0]
    for axes, panel in zip(drawn, picture.panels, strict=True):
        limit = panel.largest or 1.0
        image = axes.imshow(panel.values, cmap="RdBu", vmin=-limit, vmax=limit)
        axes.set_title(cell_text(panel.name))
        axes.set_xticks([])
        axes.set_yticks([])
        row.colorbar(image, ax=axes, shrink=0.6)


def _draw(axes: Any, chart: Chart) -> None:
    if chart.kind == "bars":
        axes.barh([cell_text(label) for label in chart.labels], list(chart.series[0].ys))
        axes.invert_yaxis()
        axes.set_xscale("log" if chart.log else "linear")
    else:
        for series in chart.series:
            axes.plot(
                list(series.xs),
                list(series.ys),
                marker="o",
                markersize=3,
                label=cell_text(series.name),
            )
        axes.set_yscale("log" if chart.log else "linear")
        axes.legend()
    axes.set_xlabel(cell_text(chart.x_label))
