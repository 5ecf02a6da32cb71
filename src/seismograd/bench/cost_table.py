"""Show the costs as a table, and as JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from seismograd.bench.timing import Result, Spread
from seismograd.i18n import translate

SCHEMA = 1


def table(results: Sequence[Result]) -> RenderableType:
    """Return one table per model, and an explanation of the figures below it."""
    shown: list[RenderableType] = []
    for result in results:
        title = translate(
            "{model}: {scalars} M scalars in {tensors} tensors, threads: {threads}, rounds: "
            "{rounds}"
        )
        shown.append(
            Text(
                title.format(
                    model=result.model,
                    scalars=f"{result.num_scalars / 1e6:.1f}",
                    tensors=f"{result.num_tensors:,}",
                    threads=torch.get_num_threads(),
                    rounds=result.num_rounds,
                ),
                style="bold",
            )
        )
        shown += [
            _costs(result),
            *(
                Text(translate("skipped: {error}").format(error=each), style="yellow")
                for each in result.failed
            ),
            Text(),
        ]
    shown.append(
        Text(
            translate(
                "Medians over the rounds, with the quartiles in brackets. Each round times all "
                "methods in turn, in one process."
            ),
            style="dim",
        )
    )
    return Group(*shown)


def _costs(result: Result) -> Table:
    costs = Table(box=None, padding=(0, 2, 0, 2), pad_edge=False, header_style="dim")
    costs.add_column(translate("alongside training"))
    costs.add_column(translate("ms per step"), justify="right")
    costs.add_column(translate("overhead"), justify="right")
    costs.add_column(translate("overhead, CPU time"), justify="right")
    for number, cost in enumerate(result.costs):
        over = ("", "") if number == 0 else (_share(cost.share), _share(cost.processor_share))
        costs.add_row(
            cost.name,
            f"{1e3 * cost.step_s.median:.3f}",
            *over,
            style="bold" if cost.name.startswith("seismograd") else "",
        )
    return costs


def _share(share: Spread) -> str:
    low, median, high = (100 * each for each in (share.low, share.median, share.high))
    return f"{median:+.1f}%  ({low:+.1f} … {high:+.1f})"


def to_json(results: Sequence[Result]) -> str:
    """Return the same for programs: times in seconds, shares of the bare step."""
    machine = {
        "machine": platform.machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    return json.dumps(
        {"schema": SCHEMA, **machine, "models": [asdict(result) for result in results]},
        indent=2,
        allow_nan=False,
    )
