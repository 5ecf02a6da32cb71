"""A comparison of two runs as two tables, with what only one of them has."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from seismograd.i18n import mark, translate
from seismograd.views.fitting_table import FittingTable, TableColumn
from seismograd.views.parity.parity_text import ParityText
from seismograd.views.parity.run_parity import RunParity
from seismograd.views.run_comparison import ComparedRun, NormDifference, RunComparison
from seismograd.views.values import (
    NOTHING,
    SEVERITY_STYLES,
    count,
    number,
    sentences,
    severity_word,
    some,
    steps,
)

_MOST_ROWS = 20


@dataclass(frozen=True, slots=True)
class ComparisonText:
    """The comparison as two tables, the findings that only one has, and how the gradients of
    a step compare.
    """

    comparison: RunComparison
    parity: RunParity

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        yield FittingTable((self.comparison.first, self.comparison.second), SIDES, ())
        yield Text()
        yield from _only_one(self.comparison)
        yield ParityText(self.parity)
        shown = self.comparison.differences[:_MOST_ROWS]
        if not shown:
            yield Text(translate("The runs have no parameters or no steps in common."), "yellow")
            return
        yield Text(
            translate(
                "Gradients of the parameters that both runs have ({number}): median norm over "
                "{steps} of {all} steps"
            ).format(
                number=count(len(self.comparison.differences)),
                steps=self.comparison.num_looked_at,
                all=count(self.comparison.num_rows),
            ),
            "bold",
        )
        if self.comparison.by_order:
            yield Text(
                translate("Few names are common: parameters are matched by order and shape."), "dim"
            )
        yield FittingTable(shown, DIFFERENCES, (SECOND_NONFINITE, FIRST_NONFINITE))
        hidden = len(self.comparison.differences) - len(shown)
        if hidden:
            yield Text(
                translate(
                    "… and {number} more with smaller differences; --format json lists all"
                ).format(number=count(hidden)),
                "dim",
            )
        only = {
            mark("only in the first run: {names}"): self.comparison.only_first,
            mark("only in the second run: {names}"): self.comparison.only_second,
        }
        for which, names in only.items():
            if names:
                yield Text(translate(which).format(names=some(names)), "yellow")


def _only_one(comparison: RunComparison) -> Iterator[Text]:
    first, second = comparison.first, comparison.second
    codes = [{finding.code for finding in side.findings} for side in (first, second)]
    for side, other, title in (
        (first, codes[1], mark("Found only in the first run")),
        (second, codes[0], mark("Found only in the second run")),
    ):
        for finding in side.findings:
            if finding.code not in other:
                said = sentences(
                    (f"{finding.code} {finding.name}", steps(finding.first_step, finding.last_step))
                )
                yield Text.assemble(
                    translate("{label}: ").format(label=translate(title)),
                    (severity_word(finding.severity), SEVERITY_STYLES[finding.severity]),
                    f" {said}",
                )
    if codes[0] != codes[1]:
        yield Text()


def _alarm(number_of: int) -> str:
    return "bold red" if number_of else ""


def _known(value: float) -> str:
    return NOTHING if math.isnan(value) else number(value)


def _codes(side: ComparedRun) -> str:
    if not side.run.num_rows and not side.findings:
        return NOTHING  # no rule could look
    return ", ".join(sorted({finding.code for finding in side.findings})) or translate("none")


NAME = TableColumn[ComparedRun](mark("run"), "left", lambda side: side.run.path.name)


SCRIPT = TableColumn[ComparedRun](mark("script"), "left", lambda side: side.run.info.script)


STEPS = TableColumn[ComparedRun](mark("steps"), "right", lambda side: count(side.run.num_rows))


LOSS = TableColumn[ComparedRun](mark("last loss"), "right", lambda side: _known(side.loss))


LR = TableColumn[ComparedRun](mark("learning rate"), "right", lambda side: _known(side.lr))


FINDINGS = TableColumn[ComparedRun](mark("findings"), "left", _codes)


SIDES = (NAME, SCRIPT, STEPS, LOSS, LR, FINDINGS)


PARAMETER = TableColumn[NormDifference](mark("parameter"), "left", lambda each: each.names)


FIRST = TableColumn[NormDifference](mark("norm, first"), "right", lambda each: _known(each.first))


SECOND = TableColumn[NormDifference](
    mark("norm, second"), "right", lambda each: _known(each.second)
)


RATIO = TableColumn[NormDifference](
    mark("first / second"),
    "right",
    lambda each: NOTHING if math.isnan(each.ratio) else f"×{number(each.ratio, 3)}",
)


FIRST_NONFINITE = TableColumn[NormDifference](
    mark("non-finite steps, first"),
    "right",
    lambda each: count(each.first_nonfinite),
    lambda each: _alarm(each.first_nonfinite),
)


SECOND_NONFINITE = TableColumn[NormDifference](
    mark("non-finite steps, second"),
    "right",
    lambda each: count(each.second_nonfinite),
    lambda each: _alarm(each.second_nonfinite),
)


DIFFERENCES = (PARAMETER, FIRST, SECOND, RATIO, FIRST_NONFINITE, SECOND_NONFINITE)
