"""Print the summary of `seismograd run` when the script has ended."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from seismograd.cli.terminal.output import next_line, next_page
from seismograd.diagnosis.verdict import Verdict
from seismograd.i18n import translate
from seismograd.record.parameter_selection import find_parameters
from seismograd.record.reader import Run
from seismograd.views.formats.diagnosis_text import finding_block, opening
from seismograd.views.formats.step_table import gradient_table, remarks, totals
from seismograd.views.notable_gradients import notable_gradients
from seismograd.views.run_condition import condition
from seismograd.views.step import (
    NO_STEP,
    find_row,
    read_step,
)
from seismograd.views.values import count, short_path
from seismograd.views.watching_cost import LeftOut, watching_cost

_MOST_FINDINGS = 3
_MOST_OTHERS = 5
_WIDEST = 100


def print_summary(
    found: Verdict,
    console: Console,
    home: Path | None = None,
    already_shown: Collection[str] = (),
    others: Sequence[Path] = (),
    left_out: LeftOut | None = None,
) -> None:
    """Print where the record is, the table of the last step, the findings and the next command to
    type, in the folder `home`.

    Notes of the kinds that are `already_shown` elsewhere are skipped. `others`: the runs of other
    processes that trained independently. `left_out`: what options would leave out of the overhead.
    """
    run, width = found.run, min(console.width, _WIDEST)
    console.print()
    console.print(_where(run, home), soft_wrap=True)
    if len(run.steps):
        _print_last_step(run, console)
    if len(run.steps) or found.findings:
        console.print()
        for part in opening(found, width):
            console.print(part)
        for finding in found.findings[:_MOST_FINDINGS]:
            console.print()
            for part in finding_block(finding, width, evidence=False):
                console.print(part)
        hidden = len(found.findings) - _MOST_FINDINGS
        if hidden > 0:
            console.print()
            console.print(
                Text(
                    translate("… more findings: {number}").format(number=count(hidden)),
                    style="bold",
                )
            )
    elif run.ended and not any(note.kind == NO_STEP for note in run.notes):
        console.print(
            Text(
                translate(
                    "No optimizer step was recorded: the script never called optimizer.step() "
                    "after a backward()."
                ),
                style="yellow",
            )
        )
    _print_condition(run, console, already_shown)
    if others:
        console.print()
        console.print(_others(others, home), soft_wrap=True)
    cost = watching_cost(run, left_out)
    if cost is not None:
        console.print()
        console.print(Text(cost, style="dim"))
    command = _next_command(found, home)
    if command:
        console.print()
        console.print(next_line(command), soft_wrap=True)


def _where(run: Run, home: Path | None) -> Text:
    text = translate("record: {path} (steps: {steps}, parameters: {parameters})").format(
        path=short_path(run.path, home),
        steps=count(len(run.steps)),
        parameters=count(len(run.parameters)),
    )
    return Text.assemble(("seismograd  ", "bold cyan"), text)


def _others(others: Sequence[Path], home: Path | None) -> Text:
    named = ", ".join(short_path(path, home) for path in others[:_MOST_OTHERS])
    if len(others) > _MOST_OTHERS:
        named = translate("{names} and {number} more").format(
            names=named, number=count(len(others) - _MOST_OTHERS)
        )
    return Text(
        translate("Processes that trained independently have their own runs: {names}").format(
            names=named
        )
    )


def _print_last_step(run: Run, console: Console) -> None:
    step = read_step(run, find_row(run, None), find_parameters(run.parameters, ()))
    shown = notable_gradients(step)
    console.print(
        Text(translate("Gradients at the last step ({step}):").format(step=step.iteration))
    )
    console.print()
    console.print(gradient_table(shown))
    hidden = len(step.gradients) - len(shown)
    if hidden:
        console.print(
            Text(
                translate("… parameters omitted here: {number}").format(number=count(hidden)),
                style="dim",
            )
        )
    console.print()
    console.print(Text(totals(step)))
    for remark in remarks(step):
        console.print(Text(remark, style="yellow"))


def _print_condition(run: Run, console: Console, already_shown: Collection[str]) -> None:
    lines = list(condition(run, already_shown))
    if lines:
        console.print()
    for line in lines:
        console.print(line)


def _next_command(found: Verdict, home: Path | None) -> str:
    """Return the command that helps most, and says what was not said yet; empty for a run of
    which there is nothing to show.
    """
    if len(found.findings) > _MOST_FINDINGS:
        return f"seismograd check {short_path(found.run.path, home)}"
    if found.findings:
        return f"seismograd explain {found.findings[0].code}"
    return next_page(found.run.path, home) if len(found.run.steps) else ""
