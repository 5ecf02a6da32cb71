"""The table of parameters in `top`: a line each, with as many columns as there is room for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table
from rich.text import Text

from seismograd.i18n import mark, translate
from seismograd.schema import FloatArray, State
from seismograd.views.sparkline import sparkline
from seismograd.views.top.snapshot import LayerRow
from seismograd.views.values import NOTHING, STATE_STYLES, number, shape, share, state_word

_SPARKS = ((110, 32), (90, 24), (60, 12))  # from which width on, and how long


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of numbers, and from which width of the screen on it is shown."""

    title: str
    from_width: int
    cell: Callable[[LayerRow], str]


def parameter_table(layers: Sequence[LayerRow], chosen: str, width: int) -> Table:
    """Return a line for each parameter; on a wide screen also what `Enter` shows of one."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", width=width)
    table.add_column(translate("parameter"), no_wrap=True, overflow="ellipsis", ratio=1)
    shown = [each for each in _COLUMNS if width >= each.from_width]
    for each in shown:
        table.add_column(translate(each.title), justify="right", no_wrap=True)
    spark = next((long for wide, long in _SPARKS if width >= wide), 0)
    if spark:
        table.add_column(translate("recent"), no_wrap=True)
    table.add_column(translate("state"), no_wrap=True)
    for layer in layers:
        cells = [Text(layer.parameter.name), *(Text(each.cell(layer)) for each in shown)]
        if spark:
            course = sparkline(logarithms(layer.course), layer.seen, spark)
            cells.append(Text(course, "cyan"))
        cells.append(Text(state_word(layer.state), STATE_STYLES[layer.state]))
        table.add_row(*cells, style="reverse" if layer.parameter.name == chosen else "")
    return table


def logarithms(values: FloatArray) -> FloatArray:
    """Return logarithms for a sparkline; zero lies below all else."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log10(values)
    logs[np.isneginf(logs)] = -45
    return logs


def _measured(layer: LayerRow, said: str) -> str:
    return said if layer.state > State.ABSENT else NOTHING


def _of_median(layer: LayerRow) -> str:
    known = math.isfinite(layer.of_median) and layer.state == State.FINITE
    return f"×{number(layer.of_median, 2)}" if known else NOTHING


def _zeros(layer: LayerRow) -> str:
    return _measured(layer, share(int(layer.zeros), layer.parameter.numel))


_COLUMNS = (
    _Column(mark("shape"), 140, lambda layer: shape(layer.parameter.shape)),
    _Column(mark("norm"), 0, lambda layer: _measured(layer, number(layer.norm))),
    _Column(mark("× median"), 100, _of_median),
    _Column(mark("max |g|"), 125, lambda layer: _measured(layer, number(layer.maximum))),
    _Column(mark("zeros"), 125, _zeros),
    _Column(
        mark("update / weights"),
        150,
        lambda layer: NOTHING if math.isnan(layer.update_ratio) else number(layer.update_ratio),
    ),
)
