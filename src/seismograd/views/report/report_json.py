"""The report as JSON: the run, its findings and rules, and each parameter over the whole run and
at the last step.
"""

from __future__ import annotations

import numpy as np

from seismograd.diagnosis.training_course import training_course
from seismograd.i18n import Message
from seismograd.record import strict_json
from seismograd.record.finding_json import finding_to_json
from seismograd.record.reader import Run
from seismograd.schema import SCHEMA_VERSION, State
from seismograd.views.formats.diagnosis_json import training_to_json
from seismograd.views.page_api.run_source import RunSource
from seismograd.views.page_api.step_numbers import row_values
from seismograd.views.run_condition import end_code
from seismograd.views.values import STATE_CODES


def render(source: RunSource) -> str:
    """Return `{"schema", "run", "training", "findings", "rules", "parameters"}`; non-finite
    numbers are "nan", "inf" or "-inf", unmeasured ones null.
    """
    run, verdict = source.run, source.verdict
    content = {
        "schema": SCHEMA_VERSION,
        "run": {
            "name": run.path.name,
            "script": run.info.script,
            "created_utc": run.info.created_utc,
            "seismograd": run.info.seismograd_version,
            "torch": run.info.torch_version,
            "steps": run.num_rows,
            "ended": run.ended,
            "end": end_code(run),
        },
        "training": training_to_json(training_course(run)),
        "findings": [finding_to_json(finding, text=Message.render) for finding in verdict.findings],
        "rules": [
            {"code": each.code, "status": each.status, "reason": each.reason.render()}
            for each in verdict.statuses
        ],
        "parameters": _parameters(run),
    }
    return strict_json.dumps(content, indent=2).decode() + "\n"


def _parameters(run: Run) -> list[dict[str, object]]:
    if not run.num_rows:
        return []
    view = run.levels.parameters("grad_norm", 0, run.num_rows, 1)
    low, high, counts = np.fmin.reduce(view.low), np.fmax.reduce(view.high), view.counts.sum(axis=0)
    states, values = row_values(run, run.num_rows - 1)
    return [
        {
            "name": each.name,
            "shape": list(each.shape),
            "dtype": each.dtype,
            "steps": {STATE_CODES[state]: int(counts[state, column]) for state in State},
            "grad_norm": {
                "smallest": _finite(low[column]),
                "largest": _finite(high[column]),
                "last": float(values["grad_norm"][column])
                if states[column] > State.ABSENT
                else None,
            },
        }
        for column, each in enumerate(run.parameters)
    ]


def _finite(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
