"""`seismograd show`: show the gradients of one step, or one scalar at every step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from seismograd.cli.chosen_run import RunArgument, chosen_run
from seismograd.cli.terminal.usage_errors import whole_number
from seismograd.i18n import mark, translate
from seismograd.views.formats.format_names import STEP_FORMAT_NAMES, as_metavar

if TYPE_CHECKING:
    from seismograd.record.reader import Run
    from seismograd.views.step import RecordedStep

StepOption = Annotated[
    str | None,
    typer.Option("--step", metavar="N", help=mark("The step to show (default: the last one).")),
]
ParamOption = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="GLOB",
        help=mark("Show only parameters whose name matches, such as 'fc1.*'. Repeatable."),
    ),
]
ElementsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--element",
        metavar="NAME[I,J]",
        help=mark(
            "Show one scalar, such as 'fc1.weight[0,0]', at every recorded step. Repeatable."
        ),
    ),
]
SnapshotsOption = Annotated[
    bool,
    typer.Option(
        "--snapshots", help=mark("List the snapshots instead: whole gradients that were kept.")
    ),
]
ModulesOption = Annotated[
    bool,
    typer.Option(
        "--modules",
        help=mark(
            "Show the signals of the modules, forward and backward, as last sampled up to the step."
        ),
    ),
]
LoopOption = Annotated[
    bool,
    typer.Option(
        "--loop",
        help=mark(
            "Show the training loop instead: the lines of the script that were called, and how "
            "often."
        ),
    ),
]
StepFormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar=as_metavar(STEP_FORMAT_NAMES),
        help=mark("Output format (default: table)."),
    ),
]


def show(
    run: RunArgument = None,
    step: StepOption = None,
    param: ParamOption = None,
    element: ElementsOption = None,
    snapshots: SnapshotsOption = False,
    modules: ModulesOption = False,
    loop: LoopOption = False,
    form: StepFormatOption = None,
) -> None:
    """Show the gradients at one recorded step, one scalar at every step, the signals of modules, or
    the training loop.
    """
    from seismograd.cli.terminal import output
    from seismograd.record.parameter_selection import find_parameters
    from seismograd.record.reader import open_run
    from seismograd.settings.elements import parse_element
    from seismograd.views.element_series import read_elements
    from seismograd.views.formats import format_list
    from seismograd.views.module_signals import read_modules
    from seismograd.views.step import find_row, read_step
    from seismograd.views.values import short_path

    number = whole_number("--step", step)
    view = form or STEP_FORMAT_NAMES[0]
    step_view, element_view = (
        format_list.find_format(format_list.STEP_FORMATS, view),
        format_list.find_format(format_list.ELEMENT_FORMATS, view),
    )
    wanted = [parse_element(text) for text in element or ()]
    recorded = open_run(chosen_run(run))
    if snapshots:
        _show_snapshots(recorded, number, view)
        return
    if loop:
        _show_loop(recorded, view)
        return
    if modules:
        modules_view = format_list.find_format(format_list.MODULES_FORMATS, view)
        if number is not None:
            find_row(recorded, number)
        signals = read_modules(recorded, number, param or ())
        output.print_condition(recorded)
        output.answer(modules_view.render(signals))
        output.suggest(f"seismograd check {short_path(recorded.path)}")
        return
    row, columns = find_row(recorded, number), find_parameters(recorded.parameters, param or ())
    if wanted:
        elements = read_elements(recorded, wanted)
        output.print_condition(recorded)
        output.answer(element_view.render(elements))
        output.suggest(f"seismograd show {short_path(recorded.path)}")
        return
    shown = read_step(recorded, row, columns, with_states=bool(param))
    output.print_condition(recorded)
    output.answer(step_view.render(shown))
    if step_view.name == "plain":
        _print_rounded(shown)
    output.suggest(f"seismograd check {short_path(recorded.path)}")


def _show_snapshots(recorded: Run, step: int | None, view: str) -> None:
    from seismograd.cli.terminal import output
    from seismograd.views import snapshot_list
    from seismograd.views.values import short_path

    listed = snapshot_list.find_snapshots(recorded, step)
    is_json = view == "json"
    output.answer(snapshot_list.as_json(listed) if is_json else snapshot_list.render(listed))
    output.suggest(f"seismograd show {short_path(recorded.path)}")


def _show_loop(recorded: Run, view: str) -> None:
    from seismograd.cli.terminal import output
    from seismograd.views import loop
    from seismograd.views.values import short_path

    shown = loop.read_loop(recorded, recorded.findings)
    output.print_condition(recorded)
    output.answer(loop.as_json(shown) if view == "json" else loop.render(shown))
    output.suggest(f"seismograd check {short_path(recorded.path)}")


def _print_rounded(shown: RecordedStep) -> None:
    """Print a note on the gradients that look like zero and are not."""
    from seismograd.cli.terminal import output
    from seismograd.views.formats.step_plain import rounded_to_zero
    from seismograd.views.values import some

    rounded = rounded_to_zero(shown)
    if rounded:
        output.print_note(
            translate(
                "not zero, but too small for six decimals (--format table shows more): {names}"
            ).format(names=some(rounded))
        )
