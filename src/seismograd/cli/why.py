"""`seismograd why`: put together in one answer why a training went wrong."""

from __future__ import annotations

from typing import Annotated

import typer

from seismograd.cli.chosen_run import RunArgument, chosen_run
from seismograd.cli.terminal.usage_errors import one_of, whole_number
from seismograd.i18n import mark
from seismograd.views.formats.format_names import WHY_FORMAT_NAMES, as_metavar

StepOption = Annotated[
    str | None,
    typer.Option(
        "--step",
        metavar="N",
        help=mark("Ask about this step (default: where the most harmful finding begins)."),
    ),
]
ParamOption = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="GLOB",
        help=mark("Only what concerns parameters whose name matches, such as 'fc1.*'. Repeatable."),
    ),
]
FormatOption = Annotated[
    str,
    typer.Option(
        "--format",
        metavar=as_metavar(WHY_FORMAT_NAMES),
        help=mark("Output format (default: text)."),
    ),
]


def why(
    run: RunArgument = None,
    step: StepOption = None,
    param: ParamOption = None,
    form: FormatOption = "text",
) -> None:
    """Say in one answer why a training went wrong."""
    from seismograd.cli.terminal import output
    from seismograd.record.reader import open_run
    from seismograd.views.values import short_path
    from seismograd.views.why import why_json, why_text
    from seismograd.views.why.answer import find_answer

    one_of("--format", form, WHY_FORMAT_NAMES)
    number = whole_number("--step", step)
    recorded = open_run(chosen_run(run))
    answer = find_answer(recorded, number, param or ())
    output.print_condition(recorded)
    output.answer(why_json.render(answer) if form == "json" else why_text.render(answer))
    output.suggest(
        f"seismograd show {short_path(recorded.path)} --modules --step {answer.sampled}"
        if answer.sampled >= 0
        else f"seismograd check {short_path(recorded.path)}"
    )
