"""One step as a table that fits the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from seismograd.i18n import mark, translate
from seismograd.prose import cell_width
from seismograd.schema import StepFlag
from seismograd.views.histogram import bars
from seismograd.views.step import Gradient, Step
from seismograd.views.values import NOTHING, STATE_STYLES, count, number, sentences, shape, share, state_word

_GAP = 2


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its title, how wide numbers are set, and what it says of a gradient."""

    title: str
    justify: Literal["left", "right"]
    cell: Callable[[Gradient], str]


def _if_measured(text: Callable[[Gradient], str]) -> Callable[[Gradient], str]:
    return lambda gradient: text(gradient) if gradient.measured else NOTHING


NAME = Column(mark("parameter"), "left", lambda gradient: gradient.parameter.name)
SHAPE = Column(mark("shape"), "left", lambda gradient: shape(gradient.parameter.shape))
SCALARS = Column(mark("scalars"), "right", lambda gradient: count(gradient.parameter.numel))
NORM = Column(mark("norm"), "right", _if_measured(lambda gradient: number(gradient.norm)))
RMS = Column(mark("RMS"), "right", _if_measured(lambda gradient: number(gradient.rms)))
MAXIMUM = Column(mark("max |g|"), "right", _if_measured(lambda gradient: number(gradient.maximum)))
ZEROS = Column(mark("zeros"), "right", _if_measured(lambda gradient: share(gradient.zeros, gradient.parameter.numel)))
NONFINITE = Column(mark("NaN/Inf"), "right", _if_measured(lambda gradient: count(gradient.nonfinite)))
STATE = Column(mark("state"), "left", lambda gradient: state_word(gradient.state))

COLUMNS = (NAME, SHAPE, SCALARS, NORM, RMS, MAXIMUM, ZEROS, NONFINITE, STATE)
LEFT_OUT_FIRST = (SCALARS, NONFINITE, RMS, SHAPE, ZEROS)
"""What a narrow terminal does without, in this order: first what follows from the other columns."""


@dataclass(frozen=True, slots=True)
class GradientTable:
    """The gradients, one a row; columns that do not fit the width are left out, and named."""

    gradients: Sequence[Gradient]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        columns = self._fitting(options.max_width)
        table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(translate(column.title), justify=column.justify, overflow="fold", no_wrap=column is not NAME)
        for gradient in self.gradients:
            style = STATE_STYLES[gradient.state]
            table.add_row(*(Text(column.cell(gradient), style if column is STATE else "") for column in columns))
        yield table
        missing = [translate(column.title) for column in COLUMNS if column not in columns]
        if missing:
            yield Text(translate("(a wider terminal also shows: {columns})").format(columns=", ".join(missing)), style="dim")

    def _fitting(self, width: int) -> list[Column]:
        columns = list(COLUMNS)
        for column in LEFT_OUT_FIRST:
            if sum(self._width(each) + _GAP for each in columns) - _GAP > width:
                columns.remove(column)
        return columns

    def _width(self, column: Column) -> int:
        return max(cell_width(translate(column.title)), *(cell_width(column.cell(gradient)) for gradient in self.gradients), 0)


@dataclass(frozen=True, slots=True)
class StepTable:
    """A title, the gradients, a line for the whole step and, of a single parameter, how its scalars are spread."""

    step: Step

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        yield Text(_title(self.step), style="bold")
        yield Text()
        yield GradientTable(self.step.gradients)
        yield Text()
        yield Text(totals(self.step))
        yield from (Text(remark, style="yellow") for remark in remarks(self.step))
        if self.step.histogram is not None:
            yield Text()
            yield from bars(self.step.histogram)


def render(step: Step) -> RenderableType:
    """The table of a step."""
    return StepTable(step)


def _title(step: Step) -> str:
    if step.iteration == step.last:
        title = translate("Gradients at step {step}, the last of {total}").format(step=step.iteration, total=step.num_recorded)
    else:
        title = translate("Gradients at step {step} of {first} to {last}").format(step=step.iteration, first=step.first, last=step.last)
    return sentences((title, "" if step.epoch is None else translate("epoch {epoch}").format(epoch=step.epoch)))


def totals(step: Step) -> str:
    """What holds for the whole step, in one line."""
    loss = translate("not measured") if step.loss is None else number(step.loss, 6)
    return sentences(
        (
            translate("norm over all parameters {norm}").format(norm=number(step.grad_norm, 6)),
            translate("loss {loss}").format(loss=loss),
            translate("learning rate {lr}").format(lr=number(step.lr)),
            translate("{number} backwards").format(number=step.num_backwards) if step.num_backwards > 1 else "",
            translate("loss scale {scale}").format(scale=number(step.scale, 6)) if step.scale != 1 else "",
            translate("clipped from {norm} to {limit}").format(norm=number(step.clip[0]), limit=number(step.clip[1]))
            if step.clip is not None and step.clip[0] > step.clip[1]
            else "",
        )
    )


def remarks(step: Step) -> Iterator[str]:
    """What was special about the step."""
    if step.flags & StepFlag.SKIPPED:
        yield translate("The GradScaler skipped this update: the gradients were not finite.")
    if step.flags & StepFlag.NO_BACKWARD:
        yield translate("The optimizer stepped on no gradient, or on the one that the step before had used.")
