"""Compare two runs: the outcome of each, what was found in one and not in the other, and where
their gradients differ.

Shapes: P parameters that both have, C compared steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from seismograd.analysis.medians import column_medians
from seismograd.i18n import mark, translate
from seismograd.record import strict_json
from seismograd.record.pyramid.cells import FACTOR
from seismograd.record.pyramid.step_scalars import STEP_SCALARS
from seismograd.record.reader import Run
from seismograd.schema import SCHEMA_VERSION, Finding, FloatArray, State
from seismograd.views.fitting_table import FittingTable, TableColumn
from seismograd.views.parameter_pairs import pair_up
from seismograd.views.parity.parity_json import parity_to_json
from seismograd.views.parity.parity_text import ParityText
from seismograd.views.parity.run_parity import RunParity
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

_LOOKED_AT = 256  # steps at equal distances, whatever the length of the runs
_MOST_ROWS = 20


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One of the two runs: its last step and its findings. `loss` is NaN where it was NaN, or not
    measured.
    """

    run: Run
    loss: float
    lr: float
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class NormDifference:
    """One parameter of both runs: the median of its norm in each over the compared steps, and in
    how many of them it was not finite.
    """

    name: str
    second_name: str  # another one where the runs are compared by order and shape
    first: float
    second: float
    first_nonfinite: int
    second_nonfinite: int

    @property
    def names(self) -> str:
        """Return the name, or both where they differ."""
        same = self.name == self.second_name
        return self.name if same else f"{self.name} ↔ {self.second_name}"

    @property
    def ratio(self) -> float:
        """Return first / second; NaN where either is zero or was never finite."""
        return self.first / self.second if self.first > 0 and self.second > 0 else math.nan


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Both sides, the parameters that both have (the most different first), and the names of those
    that have no partner.
    """

    first: ComparedRun
    second: ComparedRun
    num_rows: int  # that both have
    num_looked_at: int
    differences: tuple[NormDifference, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    by_order: bool  # which parameters belong together, because few names are common


def compare_runs(first: Run, second: Run) -> RunComparison:
    """Compare both runs over the rows that both have."""
    pairs = pair_up(first.parameters, second.parameters)
    both = pairs.columns
    num_rows = min(first.num_rows, second.num_rows)
    # Where raw values were not kept there are summaries: then medians of both are those of these.
    num_columns = min(_LOOKED_AT, num_rows // FACTOR) if first.kept or second.kept else _LOOKED_AT
    one, one_bad, looked = _norms(first, [column for column, _ in both], num_rows, num_columns)
    two, two_bad, _ = _norms(second, [column for _, column in both], num_rows, num_columns)
    found = [
        NormDifference(
            first.parameters[column].name,
            second.parameters[there].name,
            float(one[index]),
            float(two[index]),
            int(one_bad[index]),
            int(two_bad[index]),
        )
        for index, (column, there) in enumerate(both)
    ]
    sides = ((first, {one for one, _ in both}), (second, {two for _, two in both}))
    only_first, only_second = (
        tuple(each.name for column, each in enumerate(run.parameters) if column not in known)
        for run, known in sides
    )
    return RunComparison(
        _side(first),
        _side(second),
        num_rows,
        looked,
        tuple(sorted(found, key=_how_different, reverse=True)),
        only_first,
        only_second,
        pairs.by_order,
    )


def _how_different(each: NormDifference) -> tuple[bool, float]:
    bad = (each.first_nonfinite > 0) != (each.second_nonfinite > 0) or (each.first > 0) != (
        each.second > 0
    )
    return bad, 0.0 if math.isnan(each.ratio) else abs(math.log(each.ratio))


def _norms(
    run: Run, columns: list[int], num_rows: int, num_columns: int
) -> tuple[FloatArray, FloatArray, int]:
    """Return medians (P,), counts of non-finite steps (P,), and how many steps the median is of."""
    view = run.levels.parameters("grad_norm", 0, num_rows, num_columns, columns)
    if not len(view) or not columns:
        return np.full(len(columns), math.nan), np.zeros(len(columns)), 0
    return (
        column_medians(view.last),
        view.counts[:, State.NONFINITE].sum(axis=0).astype(np.float64),
        len(view),
    )


def _side(run: Run) -> ComparedRun:
    if not run.num_rows:
        return ComparedRun(run, math.nan, math.nan, run.findings)
    view = run.levels.steps(run.num_rows - 1, run.num_rows, 1)
    last = dict(zip(STEP_SCALARS, view.last[-1].tolist(), strict=True))
    return ComparedRun(run, last["loss"], last["lr"], run.findings)


def as_json(comparison: RunComparison, parity: RunParity) -> str:
    """Return all of it; non-finite numbers are "nan", "inf" or "-inf"."""
    content = {
        "schema": SCHEMA_VERSION,
        "runs": [
            {
                "run": str(side.run.path),
                "steps": side.run.num_rows,
                "loss": side.loss,
                "findings": [
                    {"code": each.code, "severity": each.severity, "first_step": each.first_step}
                    for each in side.findings
                ],
            }
            for side in (comparison.first, comparison.second)
        ],
        "parity": parity_to_json(parity),
        "steps_in_both": comparison.num_rows,
        "steps_looked_at": comparison.num_looked_at,
        "parameters": [
            {
                "name": each.name,
                "second_name": each.second_name,
                "norms": [each.first, each.second],
                "ratio": each.ratio,
                "nonfinite_steps": [each.first_nonfinite, each.second_nonfinite],
            }
            for each in comparison.differences
        ],
        "matched_by": "order and shape" if comparison.by_order else "name",
        "only_in": [list(comparison.only_first), list(comparison.only_second)],
    }
    return strict_json.dumps(content, indent=2).decode()


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
