"""The signals of modules as JSON; non-finite numbers are the strings `nan`, `inf` or `-inf`, what
was not measured is null.
"""

from __future__ import annotations

import math
from dataclasses import asdict

from seismograd.record import strict_json
from seismograd.schema import SCHEMA_VERSION
from seismograd.views.module_signals import ModuleRow, ModuleSignals


def render(signals: ModuleSignals) -> str:
    """Return the sample, its modules and what a layer does to the signal."""
    content = {
        "schema": SCHEMA_VERSION,
        "run": str(signals.run.path),
        "step": signals.step,
        "split": None if signals.split is None else asdict(signals.split),
        "in_time": [
            {**asdict(each), "gain": each.gain, "total": each.total} for each in signals.in_time
        ],
        "modules": [_module(row) for row in signals.rows],
    }
    return strict_json.dumps(content, indent=2).decode()


def _module(row: ModuleRow) -> dict[str, object]:
    return {
        "name": row.subject.name,
        "type": row.subject.type,
        "call": row.subject.call,
        **row.numbers,
        "factor": None if math.isnan(row.factor) else row.factor,
    }
