"""The verdict as JSON; non-finite numbers are the strings `nan`, `inf` or `-inf`."""

from __future__ import annotations

import math

from seismograd.diagnosis.training_course import TrainingCourse, training_course
from seismograd.diagnosis.verdict import Verdict
from seismograd.i18n import Message
from seismograd.record import strict_json
from seismograd.record.finding_json import finding_to_json
from seismograd.schema import SCHEMA_VERSION
from seismograd.views.guarded_updates import num_guarded
from seismograd.views.run_condition import end_code


def training_to_json(course: TrainingCourse) -> dict[str, object]:
    """Return how a training went; null what is not known."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in {
            "trend": str(course.trend),
            "learned": course.learned,
            "first_loss": course.first_loss,
            "peak_loss": course.peak_loss,
            "last_loss": course.last_loss,
            "guess_loss": course.guess_loss,
            "classes": course.num_classes or None,
            "moved": course.moved,
            "zero_gradients": course.num_zero,
            "parameters": course.num_parameters,
        }.items()
    }


def render(verdict: Verdict) -> str:
    """Return `{"schema", "run", "end", "guarded", "training", "findings", "rules"}`; sentences are
    in the current language, nothing else is translated.
    """
    content = {
        "schema": SCHEMA_VERSION,
        "run": str(verdict.run.path),
        "end": end_code(verdict.run),
        "guarded": num_guarded(verdict.run),
        "training": training_to_json(training_course(verdict.run)),
        "findings": [finding_to_json(finding, text=Message.render) for finding in verdict.findings],
        "rules": [
            {"code": each.code, "status": each.status, "reason": each.reason.render()}
            for each in verdict.statuses
        ],
    }
    return strict_json.dumps(content, indent=2).decode()
