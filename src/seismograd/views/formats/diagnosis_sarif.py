"""The verdict as SARIF 2.1.0, which code scanning services and editors read."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from seismograd.diagnosis.documentation import documentation
from seismograd.diagnosis.rule import Rule
from seismograd.diagnosis.verdict import Verdict
from seismograd.package_info import VERSION
from seismograd.record import strict_json
from seismograd.rules import RULES
from seismograd.schema import Finding
from seismograd.schema.finding_html import place_label
from seismograd.views.values import location_of

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def render(verdict: Verdict) -> str:
    """Return one SARIF run with the rules that were evaluated and a result for each finding."""
    evaluated = {each.code for each in verdict.statuses}
    rules = [rule for rule in RULES if rule.code in evaluated]
    index = {rule.code: number for number, rule in enumerate(rules)}
    driver = {
        "name": "seismograd",
        "semanticVersion": VERSION,
        "rules": [_rule(rule) for rule in rules],
    }
    results = [_result(finding, index) for finding in verdict.findings]
    content = {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }
    return strict_json.dumps(content, indent=2).decode()


def _rule(rule: type[Rule]) -> dict[str, Any]:
    known = documentation(rule)
    text = "\n\n".join(
        f"{section.heading}\n" + "\n".join(each.render() for each in section.paragraphs)
        for section in known.sections
    )
    return {
        "id": rule.code,
        "name": "".join(word.capitalize() for word in rule.name.split("-")),
        "shortDescription": {"text": known.summary.render()},
        "help": {"text": text},
        "defaultConfiguration": {"level": LEVELS[rule.severity]},
    }


def _result(finding: Finding, index: dict[str, int]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "level": LEVELS[finding.severity],
        "message": {"text": _message(finding)},
        "properties": {
            "firstStep": finding.first_step,
            "lastStep": finding.last_step,
            "parameters": list(finding.parameters),
            "related": list(finding.related),
        },
    }
    if finding.code in index:
        result["ruleIndex"] = index[finding.code]
    file, line = location_of(finding)
    if file:
        location: dict[str, Any] = {
            "artifactLocation": {"uri": _uri(file)},
            "region": {"startLine": line},
        }
        result["locations"] = [{"physicalLocation": location}]
    return result


def _message(finding: Finding) -> str:
    lines = [finding.cause.render(), finding.advice.render()]
    if finding.seen_only:
        lines.append(f"{place_label(finding)}: {finding.where}")
    return "\n".join(lines)


def _uri(file: str) -> str:
    """Return a relative path as a relative reference, an absolute one as a file URI."""
    path = Path(file)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())
