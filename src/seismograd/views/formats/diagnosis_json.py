"""The verdict as JSON; non-finite numbers are the strings `nan`, `inf` or `-inf`."""

from __future__ import annotations

from seismograd.diagnosis.verdict import Verdict
from seismograd.i18n import Message
from seismograd.record import strict_json
from seismograd.record.finding_json import finding_to_json
from seismograd.schema import SCHEMA_VERSION


def render(verdict: Verdict) -> str:
    """Return `{"schema", "run", "findings", "rules"}`; sentences are in the current language,
    nothing else is translated.
    """
    content = {
        "schema": SCHEMA_VERSION,
        "run": str(verdict.run.path),
        "findings": [finding_to_json(finding, text=Message.render) for finding in verdict.findings],
        "rules": [
            {"code": each.code, "status": each.status, "reason": each.reason.render()}
            for each in verdict.statuses
        ],
    }
    return strict_json.dumps(content, indent=2).decode()
