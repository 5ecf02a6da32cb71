"""Information about a run as a whole for the page: its name and circumstances, its parameters, its
findings in every language.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from seismograd.analysis.profile_layers import layers_of
from seismograd.diagnosis.documentation import documentation
from seismograd.diagnosis.training_course import training_course
from seismograd.diagnosis.verdict import Verdict
from seismograd.i18n import Message
from seismograd.record.finding_json import finding_to_json
from seismograd.record.pyramid.cells import PYRAMID_STATISTICS
from seismograd.record.pyramid.step_scalars import STEP_SCALARS
from seismograd.record.reader import Run
from seismograd.rules import RULES
from seismograd.rules.sg101.sg101_vanishing_gradient import VanishingGradient
from seismograd.rules.sg102.sg102_exploding_gradient import ExplodingGradient
from seismograd.schema import (
    HISTOGRAM_BINS,
    HISTOGRAM_EXPONENTS_PER_BIN,
    HISTOGRAM_FIRST_EXPONENT,
    SCHEMA_VERSION,
    AnyArray,
    EventFlag,
    EventKind,
    Finding,
    Parameter,
    RunState,
    SampleKind,
    StepFlag,
)
from seismograd.views.epoch_rows import epoch_rows
from seismograd.views.loop import FAULT_KINDS
from seismograd.views.page_api.heat_codes import SENTINELS
from seismograd.views.page_api.loop_lines import loop_lines
from seismograd.views.page_api.translations import in_all_languages, rendered
from seismograd.views.run_condition import QUIET_NOTES, end_code, end_word
from seismograd.views.unit_pictures import pictured
from seismograd.views.values import sentences
from seismograd.views.verdict_words import course_lines, num_evaluated, without_findings

_ROW_LABELS = 512  # rows whose step is sent, where steps were left out


def about(
    verdict: Verdict, going_on: bool, with_source: bool
) -> tuple[dict[str, object], dict[str, AnyArray]]:
    """Return the header and its arrays: no path, no argument, no environment, no host name, and
    lines of the script only `with_source`.

    Parameters that are alike but for their name and depth are described once: `alike[kind[p]]`
    describes parameter `names[p]`.
    """
    run = verdict.run
    columns = {each.name: column for column, each in enumerate(run.parameters)}
    alike, kind = _alike(run.parameters)
    depths = [-1 if each.depth is None else each.depth for each in run.parameters]
    arrays: dict[str, AnyArray] = {
        "kind": np.array(kind, np.int32),
        "depth": np.array(depths, np.int32),
        "layers": _layers(run),
    }
    return {
        "schema": SCHEMA_VERSION,
        "run": _about_run(run, going_on),
        "rows": run.num_rows,
        "steps": _steps(run),
        "names": [each.name for each in run.parameters],
        "alike": alike,
        "statistics": [
            name for name in PYRAMID_STATISTICS if any(each.name == name for each in run.statistics)
        ],
        "scalars": list(STEP_SCALARS),
        "gain_band": [VanishingGradient().max_gain, ExplodingGradient().min_gain],
        "optimizers": [
            {"kind": each.kind, "name": each.name} for each in run.row_reader.optimizers
        ],
        "sites": [{"where": str(each), "label": each.label} for each in run.row_reader.sites],
        "elements": list(run.info.elements),
        "findings": [_finding(run, each, columns) for each in verdict.findings],
        "explanations": _explanations(verdict),
        "loop": loop_lines(verdict, with_source),
        "epochs": epoch_rows(run),
        "sampled": bool(len(run.row_reader.sample_rows(0, run.num_rows))),
        "signals": bool(len(run.sampled(SampleKind.MODULE_SIGNALS))),
        "pictures": list(pictured(run)),
        "rules": [
            {
                "code": each.code,
                "name": each.name,
                "status": each.status,
                "reason": rendered(each.reason),
            }
            for each in verdict.statuses
        ],
        "judged": verdict.judged,
        "training": _course(verdict) if run.num_rows else None,
        "notes": [
            {"kind": each.kind, "step": each.iteration, "text": rendered(each.message)}
            for each in run.notes
            if each.kind not in QUIET_NOTES
        ],
        **_encodings(),
    }, arrays


def _about_run(run: Run, going_on: bool) -> dict[str, object]:
    return {
        "name": run.path.name,
        "script": run.info.script,
        "created": run.info.created_utc,
        "seismograd": run.info.seismograd_version,
        "torch": run.info.torch_version,
        "python": run.info.python_version,
        "level": run.info.level,
        "state": str(RunState.of(run.ended, going_on)),
        "end": ending(run),
        "torn": None if run.torn is None else rendered(run.torn),
        "not_kept": None if run.not_kept is None else rendered(run.not_kept),
    }


def _encodings() -> dict[str, object]:
    """Return what the numbers in the arrays mean; the same for every run."""
    return {
        "codes": SENTINELS,
        "histogram": {
            "bins": HISTOGRAM_BINS,
            "first": HISTOGRAM_FIRST_EXPONENT,
            "per_bin": HISTOGRAM_EXPONENTS_PER_BIN,
        },
        "fault_kinds": {code: kind.name for code, kind in FAULT_KINDS.items()},
        "kinds": {kind.name: int(kind) for kind in EventKind},
        "event_flags": {str(flag.name): int(flag) for flag in EventFlag if flag},
        "step_flags": {str(flag.name): int(flag) for flag in StepFlag if flag},
    }


def ending(run: Run) -> dict[str, str] | None:
    """Return how a run ended in every language; `None` where it is complete, or has not ended."""
    code = end_code(run)
    return None if code in ("complete", "not ended") else in_all_languages(lambda: end_word(code))


def _course(verdict: Verdict) -> dict[str, object]:
    """Return how the training went, in every language."""
    course, looked = training_course(verdict.run), num_evaluated(verdict)
    return {
        "learned": course.learned,
        "headline": in_all_languages(lambda: without_findings(course, looked)),
        "line": in_all_languages(lambda: sentences(course_lines(verdict, course))),
    }


def _explanations(verdict: Verdict) -> dict[str, object]:
    """Return what `explain` says of each rule that found something, by its code."""
    found = {each.code for each in verdict.findings}
    return {
        rule.code: [
            [
                rendered(Message(section.heading)),
                [rendered(paragraph) for paragraph in section.paragraphs],
            ]
            for section in documentation(rule).sections
        ]
        for rule in RULES
        if rule.code in found
    }


def _steps(run: Run) -> dict[str, object]:
    """Return the steps of the rows: all from the first on, or, where some were left out, those of
    some rows to interpolate between.
    """
    if run.num_rows == 0:
        return {"first": 0, "last": -1, "rows": []}
    first, last = (
        int(run.row_reader.steps(row, row + 1)["iteration"][0]) for row in (0, run.num_rows - 1)
    )
    if last - first == run.num_rows - 1:
        return {"first": first, "last": last, "rows": []}
    rows = sorted({index * (run.num_rows - 1) // (_ROW_LABELS - 1) for index in range(_ROW_LABELS)})
    return {
        "first": first,
        "last": last,
        "rows": [[row, int(run.row_reader.steps(row, row + 1)["iteration"][0])] for row in rows],
    }


def _alike(parameters: Sequence[Parameter]) -> tuple[list[dict[str, object]], list[int]]:
    """Return the descriptions that occur, and which of them each parameter has."""
    positions: dict[tuple[object, ...], int] = {}
    kind = [
        positions.setdefault(
            (
                each.shape,
                each.dtype,
                each.numel,
                each.module,
                each.aliases,
                each.optimizer,
                each.group,
                each.trainable,
                each.compute_dtype,
            ),
            len(positions),
        )
        for each in parameters
    ]
    names = (
        "shape",
        "dtype",
        "numel",
        "module",
        "aliases",
        "optimizer",
        "group",
        "trainable",
        "compute_dtype",
    )
    return [dict(zip(names, values, strict=True)) for values in positions], kind


def _layers(run: Run) -> AnyArray:
    """Return the columns of the weights that pass a signal on, nearest the input first."""
    layers = layers_of(run.parameters)
    return layers.columns[: len(layers)].astype(np.int32)


def _finding(run: Run, finding: Finding, columns: Mapping[str, int]) -> dict[str, object]:
    return {
        **finding_to_json(finding, text=rendered),
        "columns": [columns[name] for name in finding.parameters if name in columns],
        "first_row": run.row_reader.row_of(finding.first_step) if run.num_rows else 0,
        "last_row": run.row_reader.row_of(finding.last_step) if run.num_rows else 0,
        "row": telling_row(run, finding),
    }


def telling_row(run: Run, finding: Finding) -> int:
    """Return the row whose numbers the finding states: that of its first evidence, where it is one
    of its steps.
    """
    if not run.num_rows:
        return 0
    steps = (each.step for each in finding.evidence)
    within = (step for step in steps if finding.first_step <= step <= finding.last_step)
    return run.row_reader.row_of(next(within, finding.first_step))
