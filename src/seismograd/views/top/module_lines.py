"""The modules of the newest sample in `top`: a line each, where there is room."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from seismograd.i18n import translate
from seismograd.schema import State
from seismograd.views.module_signals import ModuleRow, ModuleSignals
from seismograd.views.signal_words import KEPT
from seismograd.views.values import NOTHING, STATE_STYLES, number, percent

_HEAD = 2  # lines: a title and the names of the columns
_FEWEST = 3  # modules for which it is worth while
_ROOM_TO_SHARE = 18  # lines of which parameters leave a third, however many there are


def room_for_modules(signals: ModuleSignals, room: int, num_parameters: int) -> int:
    """Return how many of `room` lines the modules take: what the parameters leave, or a third on a
    high screen; 0 where that is too little.
    """
    lines = max(room - num_parameters, room // 3 if room >= _ROOM_TO_SHARE else 0)
    wanted = _HEAD + len(signals.rows)
    return 0 if lines < min(wanted, _HEAD + _FEWEST) else min(lines, wanted)


def module_lines(signals: ModuleSignals, lines: int, width: int) -> Iterator[RenderableType]:
    """Yield a title and the modules in the order of execution; where there is no room for all,
    those that change the signal the most.
    """
    shown = _telling(signals.rows, lines - _HEAD)
    title = translate("modules: {shown} of {all}, sampled at step {step}").format(
        shown=len(shown), all=len(signals.rows), step=signals.step
    )
    yield Text(title, "dim", no_wrap=True, overflow="ellipsis")
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", width=width)
    table.add_column(translate("module"), no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(translate("signal RMS"), justify="right", no_wrap=True)
    table.add_column(translate("× back"), justify="right", no_wrap=True)
    if width >= 60:
        table.add_column(translate("saturated"), justify="right", no_wrap=True)
    for row in shown:
        cells = [Text(row.name), _number(row.numbers["signal_rms"]), _factor(row.factor)]
        saturated = row.numbers["saturated"]
        if width >= 60:
            cells.append(Text(NOTHING if saturated is None else percent(saturated)))
        table.add_row(*cells)
    yield table


def _telling(rows: tuple[ModuleRow, ...], most: int) -> tuple[ModuleRow, ...]:
    if len(rows) <= most:
        return rows
    worst = sorted(range(len(rows)), key=lambda at: -_change(rows[at]))[:most]
    return tuple(rows[at] for at in sorted(worst))


def _change(row: ModuleRow) -> float:
    """Return how far from its size a module brings the signal, in factors of e; one that is not
    finite comes first, then one that is zero.
    """
    signal = row.numbers["signal_rms"]
    if signal is not None and not math.isfinite(signal):
        return math.inf
    if signal == 0:
        return 1e9
    return abs(math.log(row.factor)) if 0 < row.factor < math.inf else -1.0


def _number(value: float | None) -> Text:
    if value is None:
        return Text(NOTHING)
    return Text(number(value, 3), "" if math.isfinite(value) else STATE_STYLES[State.NONFINITE])


def _factor(factor: float) -> Text:
    if math.isnan(factor):
        return Text(NOTHING)
    return Text(number(factor, 3), "" if KEPT[0] <= factor <= KEPT[1] else "yellow")
