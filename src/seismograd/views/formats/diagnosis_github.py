"""The verdict as GitHub workflow commands: each finding becomes an annotation at the user's
line.
"""

from __future__ import annotations

from seismograd.diagnosis.verdict import Verdict
from seismograd.schema import Finding
from seismograd.schema.finding_html import place_label
from seismograd.views.values import location_of, sentences, steps

COMMANDS = {"error": "error", "warning": "warning", "info": "notice"}


def render(verdict: Verdict) -> str:
    """Return one line for each finding; empty when there is none.

    The form is that of GitHub's documentation, Workflow commands for GitHub Actions.
    """
    return "\n".join(_line(finding) for finding in verdict.findings)


def _line(finding: Finding) -> str:
    properties = {"title": f"{finding.code} {finding.name}"}
    file, line = location_of(finding)
    if file:
        properties = {"file": file, "line": str(line), **properties}
    listed = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    text = sentences(
        (
            f"{steps(finding.first_step, finding.last_step)}: {finding.cause.render()}",
            finding.advice.render(),
            f"{place_label(finding)}: {finding.where}" if finding.seen_only else "",
        )
    )
    return f"::{COMMANDS[finding.severity]} {listed}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
