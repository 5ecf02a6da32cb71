"""The signals of modules as a table that fits the terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from seismograd.i18n import mark, translate
from seismograd.views.fitting_table import FittingTable, TableColumn
from seismograd.views.module_signals import ModuleRow, ModuleSignals
from seismograd.views.signal_words import KEPT, signal_sentences
from seismograd.views.text_layout import wrap
from seismograd.views.values import NOTHING, number, percent


def _field(name: str, text: Callable[[float], str]) -> Callable[[ModuleRow], str]:
    def cell(row: ModuleRow) -> str:
        value = row.numbers[name]
        return NOTHING if value is None else text(value)

    return cell


def _short(value: float) -> str:
    return number(value, 3)


NAME = TableColumn[ModuleRow](mark("module"), "left", lambda row: row.name)
KIND = TableColumn[ModuleRow](mark("type"), "left", lambda row: row.subject.type)
RMS = TableColumn[ModuleRow](mark("RMS"), "right", _field("rms", _short))
LARGEST = TableColumn[ModuleRow](mark("max |x|"), "right", _field("largest", _short))
ZEROS = TableColumn[ModuleRow](mark("zeros"), "right", _field("zeros", percent))
SATURATED = TableColumn[ModuleRow](mark("saturated"), "right", _field("saturated", percent))
SIGNAL = TableColumn[ModuleRow](mark("signal RMS"), "right", _field("signal_rms", _short))
SIGNAL_LARGEST = TableColumn[ModuleRow](
    mark("max signal"), "right", _field("signal_largest", _short)
)
FACTOR = TableColumn[ModuleRow](
    mark("× back"),
    "right",
    lambda row: NOTHING if math.isnan(row.factor) else number(row.factor, 3),
    lambda row: "" if not row.factor < KEPT[0] and not row.factor > KEPT[1] else "yellow",
)
LOGIT = TableColumn[ModuleRow](mark("max logit"), "right", _field("attention_logit", _short))
ENTROPY = TableColumn[ModuleRow](mark("entropy"), "right", _field("attention_entropy", percent))

COLUMNS = (NAME, KIND, RMS, LARGEST, ZEROS, SATURATED, SIGNAL, SIGNAL_LARGEST, FACTOR)
OF_ATTENTION = (LOGIT, ENTROPY)
LEFT_OUT_FIRST = (SIGNAL_LARGEST, LARGEST, KIND, ENTROPY, LOGIT, ZEROS, SATURATED)


@dataclass(frozen=True, slots=True)
class ModulesTable:
    """A title, the modules, and in words what a layer does to the signal."""

    signals: ModuleSignals

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        signals = self.signals
        yield Text(
            translate(
                "Signals of modules at step {step} (samples: {number}, last: step {last})"
            ).format(step=signals.step, number=signals.num_samples, last=signals.last_sample),
            style="bold",
        )
        yield Text()
        attends = any(row.numbers["attention_logit"] is not None for row in signals.rows)
        columns = (*COLUMNS, *OF_ATTENTION) if attends else COLUMNS
        yield FittingTable(signals.rows, columns, [c for c in LEFT_OUT_FIRST if c in columns])
        said = tuple(signal_sentences(signals))
        if said:
            yield Text()
        for each in said:
            yield from (Text(line) for line in wrap(each, options.max_width))


def render(signals: ModuleSignals) -> RenderableType:
    """Return the table of a sample."""
    return ModulesTable(signals)
