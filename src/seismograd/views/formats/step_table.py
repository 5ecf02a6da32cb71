"""One step as a table that fits the terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from seismograd.i18n import mark, translate
from seismograd.schema import StepFlag
from seismograd.views.fitting_table import FittingTable, TableColumn
from seismograd.views.formats.state_table import state_table
from seismograd.views.histogram import bars
from seismograd.views.step import GradientNumbers, RecordedStep
from seismograd.views.values import (
    NOTHING,
    STATE_STYLES,
    count,
    number,
    sentences,
    shape,
    share,
    state_word,
)


def _if_measured(text: Callable[[GradientNumbers], str]) -> Callable[[GradientNumbers], str]:
    return lambda gradient: text(gradient) if gradient.measured else NOTHING


NAME = TableColumn[GradientNumbers](
    mark("parameter"), "left", lambda gradient: gradient.parameter.name
)
SHAPE = TableColumn[GradientNumbers](
    mark("shape"), "left", lambda gradient: shape(gradient.parameter.shape)
)
SCALARS = TableColumn[GradientNumbers](
    mark("scalars"), "right", lambda gradient: count(gradient.parameter.numel)
)
NORM = TableColumn[GradientNumbers](
    mark("norm"), "right", _if_measured(lambda gradient: number(gradient.norm))
)
RMS = TableColumn[GradientNumbers](
    mark("RMS"), "right", _if_measured(lambda gradient: number(gradient.rms))
)
MAXIMUM = TableColumn[GradientNumbers](
    mark("max |g|"), "right", _if_measured(lambda gradient: number(gradient.maximum))
)
ZEROS = TableColumn[GradientNumbers](
    mark("zeros"),
    "right",
    _if_measured(lambda gradient: share(gradient.zeros, gradient.parameter.numel)),
)
NONFINITE = TableColumn[GradientNumbers](
    mark("NaN/Inf"), "right", _if_measured(lambda gradient: count(gradient.nonfinite))
)
STATE = TableColumn[GradientNumbers](
    mark("state"),
    "left",
    lambda gradient: state_word(gradient.state),
    lambda gradient: STATE_STYLES[gradient.state],
)

COLUMNS = (NAME, SHAPE, SCALARS, NORM, RMS, MAXIMUM, ZEROS, NONFINITE, STATE)
LEFT_OUT_FIRST = (SCALARS, NONFINITE, RMS, SHAPE, ZEROS)
"""What a narrow terminal does without, in this order: first what follows from the other columns."""


def gradient_table(gradients: Sequence[GradientNumbers]) -> RenderableType:
    """Return the gradients, one per row."""
    return FittingTable(gradients, COLUMNS, LEFT_OUT_FIRST)


@dataclass(frozen=True, slots=True)
class StepTable:
    """A title, the gradients, a line for the whole step and, for a single parameter, the
    distribution of its scalars.
    """

    step: RecordedStep

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        yield Text(_title(self.step), style="bold")
        yield Text()
        yield gradient_table(self.step.gradients)
        yield Text()
        yield Text(totals(self.step))
        yield from (Text(remark, style="yellow") for remark in remarks(self.step))
        if self.step.states:
            yield Text()
            yield Text(translate("What the optimizer remembered:"))
            yield state_table(self.step.states)
        if self.step.histogram is not None:
            yield Text()
            yield from bars(self.step.histogram)


def render(step: RecordedStep) -> RenderableType:
    """Return the table of a step."""
    return StepTable(step)


def _title(step: RecordedStep) -> str:
    if step.iteration == step.last:
        title = translate("Gradients at step {step}, the last of {total}").format(
            step=step.iteration, total=step.num_recorded
        )
    else:
        title = translate("Gradients at step {step} (recorded steps: {first} to {last})").format(
            step=step.iteration, first=step.first, last=step.last
        )
    return sentences(
        (title, "" if step.epoch is None else translate("epoch {epoch}").format(epoch=step.epoch))
    )


def totals(step: RecordedStep) -> str:
    """Return the values of the whole step, in one line."""
    loss = translate("not measured") if step.loss is None else number(step.loss, 6)
    return sentences(
        (
            translate("total norm {norm}").format(norm=number(step.grad_norm, 6)),
            translate("loss {loss}").format(loss=loss),
            translate("learning rate {lr}").format(lr=number(step.lr)),
            translate("backward passes: {number}").format(number=step.num_backwards)
            if step.num_backwards > 1
            else "",
            translate("loss scale {scale}").format(scale=number(step.scale, 6))
            if step.scale != 1
            else "",
            translate("clipped from {norm} to {limit}").format(
                norm=number(step.clip[0]), limit=number(step.clip[1])
            )
            if step.clip is not None and step.clip[0] > step.clip[1]
            else "",
            translate("applied norm {norm}").format(norm=number(step.applied_norm, 6))
            if _changed_on_the_way(step)
            else "",
        )
    )


def _changed_on_the_way(step: RecordedStep) -> bool:
    """Return whether the optimizer consumed something other than the ready gradient."""
    return math.isfinite(step.applied_norm) and not math.isclose(
        step.applied_norm, step.grad_norm, rel_tol=1e-5
    )


def remarks(step: RecordedStep) -> Iterator[str]:
    """Yield the remarks about the step."""
    if step.flags & StepFlag.GUARDED:
        yield translate("The guard left out an update of this step.")
    elif step.flags & StepFlag.SKIPPED:
        yield translate("GradScaler skipped this update because the gradients were not finite.")
    if step.flags & StepFlag.NO_BACKWARD:
        yield translate(
            "The optimizer had no new gradient at this step: it used none, or one that the "
            "previous step had already used."
        )
    if step.flags & StepFlag.BY_HAND:
        yield (
            translate("No optimizer took this step: the script changed the weights by hand.")
            if step.num_steps == 1
            else translate("Beside the step of an optimizer, the script changed weights by hand.")
        )
    if step.flags & StepFlag.COPIED:
        yield translate(
            "The gradients were computed at a copy of what the optimizer trains, which was given "
            "the new weights after the step."
        )
    if step.flags & StepFlag.UNHEARD:
        yield translate(
            "Backward was compiled: neither backward nor clipping was recorded, and the norms are "
            "of the gradients that step was given."
        )
    if step.flags & StepFlag.CHANGED:
        yield translate(
            "The gradients changed between backward and step, by hand or by a function that "
            "seismograd does not watch."
        )
