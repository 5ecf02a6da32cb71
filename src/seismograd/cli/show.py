"""`seismograd show`: show the gradients of one step, or one scalar at every step."""

from __future__ import annotations

from typing import Annotated

import typer

from seismograd.cli.chosen_run import RunArgument, chosen_run
from seismograd.cli.terminal.usage_errors import whole_number
from seismograd.i18n import mark, translate
from seismograd.views.formats.format_names import STEP_FORMAT_NAMES, as_metavar


def show(
    run: RunArgument = None,
    step: Annotated[
        str | None,
        typer.Option("--step", metavar="N", help=mark("The step to show (default: the last one).")),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            metavar="GLOB",
            help=mark("Show only parameters whose name matches, such as 'fc1.*'. Repeatable."),
        ),
    ] = None,
    element: Annotated[
        list[str] | None,
        typer.Option(
            "--element",
            metavar="NAME[I,J]",
            help=mark(
                "Show one scalar, such as 'fc1.weight[0,0]', at every recorded step. Repeatable."
            ),
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar=as_metavar(STEP_FORMAT_NAMES),
            help=mark("Output format (default: table)."),
        ),
    ] = None,
) -> None:
    """Show the gradients at one recorded step, or one scalar at every step."""
    from seismograd.cli.terminal import output
    from seismograd.record.reader import open_run
    from seismograd.settings.elements import parse_element
    from seismograd.views.element_series import read_elements
    from seismograd.views.formats import format_list, step_plain
    from seismograd.views.step import find_parameters, find_row, read_step
    from seismograd.views.values import short_path, some

    number = whole_number("--step", step)
    view = form or STEP_FORMAT_NAMES[0]
    step_view, element_view = (
        format_list.find_format(format_list.STEP_FORMATS, view),
        format_list.find_format(format_list.ELEMENT_FORMATS, view),
    )
    wanted = [parse_element(text) for text in element or ()]
    recorded = open_run(chosen_run(run))
    row, columns = find_row(recorded, number), find_parameters(recorded, param or ())
    if wanted:
        elements = read_elements(recorded, wanted)
        output.print_condition(recorded)
        output.answer(element_view.render(elements))
        output.suggest(f"seismograd show {short_path(recorded.path)}")
        return
    shown = read_step(recorded, row, columns)
    output.print_condition(recorded)
    output.answer(step_view.render(shown))
    rounded = step_plain.rounded_to_zero(shown) if step_view.name == "plain" else ()
    if rounded:
        output.print_note(
            translate(
                "not zero, but too small for six decimals (--format table shows more): {names}"
            ).format(names=some(rounded))
        )
    output.suggest(f"seismograd check {short_path(recorded.path)}")
