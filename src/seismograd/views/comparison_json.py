"""A comparison of two runs as JSON."""

from __future__ import annotations

from seismograd.record import strict_json
from seismograd.schema import SCHEMA_VERSION
from seismograd.views.parity.parity_json import parity_to_json
from seismograd.views.parity.run_parity import RunParity
from seismograd.views.run_comparison import RunComparison


def comparison_to_json(comparison: RunComparison, parity: RunParity) -> str:
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
