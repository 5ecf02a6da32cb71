"""`seismograd bench`: the cost of watching on this machine."""

from __future__ import annotations

import importlib.util
import sys
from typing import Annotated

import typer

from seismograd.cli.terminal.format_option import FormatOption, is_json
from seismograd.errors import SeismogradError
from seismograd.i18n import mark, say, translate


def bench(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="mlp|many|gpt|MODULE:FUNCTION",
            help=mark(
                "The model to train during the measurement; repeatable. Your own function must "
                "return (model, loss), where loss() computes the loss of one batch."
            ),
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help=mark("Run fewer rounds and skip the GPT."))
    ] = False,
    form: FormatOption = "text",
    as_json: Annotated[bool, typer.Option("--json", hidden=True)] = False,
) -> None:
    """Measure what watching a training costs on this machine, next to other ways of looking at
    gradients.
    """
    as_json = is_json(form) or as_json
    if importlib.util.find_spec("torch") is None:
        raise SeismogradError(
            say("the benchmark needs PyTorch, which is not installed"), say("pip install torch")
        )
    from seismograd.bench import cost_table
    from seismograd.bench.models import MODELS, user_model
    from seismograd.bench.timing import Result, measure
    from seismograd.cli.terminal import output

    results: list[Result] = []
    names = model or [name for name in MODELS if not (quick and name == "gpt")]
    for name in names:
        if name not in MODELS and ":" not in name:
            raise SeismogradError(
                say("{option} does not accept {value}", option="--model", value=repr(name)),
                say("use one of: {choices}", choices=", ".join((*MODELS, "MODULE:FUNCTION"))),
            )
    with _Progress() as progress:
        for name in names:
            workload = MODELS[name]() if name in MODELS else user_model(name)
            results.append(measure(workload, quick, progress.tick))
    output.answer(cost_table.to_json(results) if as_json else cost_table.table(results))


class _Progress:
    """A progress line on stderr, where that is a terminal."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def tick(self, name: str, done: int, of: int) -> None:
        """Show how many turns are done."""
        if self._shown:
            line = translate("measuring {model}: {percent}%").format(
                model=name, percent=100 * done // of
            )
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
