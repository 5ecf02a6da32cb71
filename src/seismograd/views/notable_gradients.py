"""Which gradients are worth a row where there are too many."""

from __future__ import annotations
from collections.abc import Collection, Sequence
from pathlib import Path
from rich.console import Console
from rich.text import Text
from seismograd.i18n import translate
from seismograd.record.reader import Run
from seismograd.diagnosis.engine import RuleStatus
from seismograd.schema import Finding, State
from seismograd.views.watching_cost import watching_cost
from seismograd.diagnosis.verdict import Verdict, make_verdict
from seismograd.views.formats.diagnosis_text import finding_block, headline
from seismograd.views.run_condition import condition
from seismograd.cli.terminal.output import next_line
from seismograd.views.step import (
    NO_STEP,
    GradientNumbers,
    RecordedStep,
    find_parameters,
    find_row,
    read_step,
)
from seismograd.views.formats.step_table import gradient_table, remarks, totals
from seismograd.views.values import count, short_path


_MOST_GRADIENTS = 12


def notable_gradients(step: RecordedStep) -> tuple[GradientNumbers, ...]:
    """The gradients worth a row when there are too many: those that are not finite, then the largest and the smallest, in their order."""
    if len(step.gradients) <= _MOST_GRADIENTS:
        return step.gradients
    unusual = [each for each in step.gradients if each.state != State.FINITE][: _MOST_GRADIENTS // 2]
    usual = sorted((each for each in step.gradients if each.state == State.FINITE), key=lambda each: each.rms)
    room = _MOST_GRADIENTS - len(unusual)
    chosen = [*unusual, *usual[: room // 2], *usual[len(usual) - (room - room // 2) :]]
    names = {each.parameter.name for each in chosen}
    return tuple(each for each in step.gradients if each.parameter.name in names)
