"""The answer as JSON; non-finite numbers are the strings `nan`, `inf` or `-inf`."""

from __future__ import annotations

from dataclasses import asdict

from seismograd.analysis.birth_words import words
from seismograd.i18n import Message
from seismograd.record import strict_json
from seismograd.record.finding_json import finding_to_json
from seismograd.schema import SCHEMA_VERSION
from seismograd.views.why.answer import Answer


def render(answer: Answer) -> str:
    """Return `{"schema", "run", "step", "findings", "birth", "sampled", "split", "in_time",
    "depth", "changes", "rules"}`; sentences are in the current language.
    """
    birth = answer.birth
    content = {
        "schema": SCHEMA_VERSION,
        "run": str(answer.run.path),
        "step": answer.step,
        "findings": [finding_to_json(each, text=Message.render) for each in answer.findings],
        "birth": None
        if birth is None
        else {
            "step": birth.iteration,
            "where": birth.where,
            "cause": words(birth)[0].render(),
            **birth.values,
        },
        "sampled": None if answer.sampled < 0 else answer.sampled,
        "split": None if answer.split is None else asdict(answer.split),
        "in_time": [
            {**asdict(each), "gain": each.gain, "total": each.total} for each in answer.in_time
        ],
        "depth": [asdict(each) for each in answer.depth],
        "changes": [asdict(each) for each in answer.changes],
        "rules": {
            status: sum(each.status == status for each in answer.verdict.statuses)
            for status in ("found", "clear", "not evaluated")
        },
    }
    return strict_json.dumps(content, indent=2).decode()
