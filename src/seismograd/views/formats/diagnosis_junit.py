"""The verdict as JUnit XML, which continuous integration servers show: a test case for each
rule.
"""

from __future__ import annotations

from xml.etree import ElementTree as Tree

from seismograd.diagnosis.verdict import Verdict
from seismograd.schema import Finding
from seismograd.schema.finding_html import place_label
from seismograd.views.values import sentences, steps


def render(verdict: Verdict) -> str:
    """Return a suite named after the run: errors and warnings are failures, rules that could not be
    evaluated are skipped, the rest passes.
    """
    suite = Tree.Element("testsuite", name=_clean(f"seismograd {verdict.run.path}"))
    counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for status in verdict.statuses:
        found = [finding for finding in verdict.findings if finding.code == status.code]
        case = Tree.SubElement(
            suite, "testcase", classname="seismograd", name=f"{status.code} {status.name}"
        )
        counts["tests"] += 1
        failures = [finding for finding in found if finding.severity != "info"]
        if failures:
            counts["failures"] += 1
            failure = Tree.SubElement(
                case,
                "failure",
                type=failures[0].severity,
                message=_clean(failures[0].cause.render()),
            )
            failure.text = _clean("\n\n".join(map(_text, failures)))
        elif found:
            Tree.SubElement(case, "system-out").text = _clean("\n\n".join(map(_text, found)))
        elif status.status == "not evaluated":
            counts["skipped"] += 1
            Tree.SubElement(case, "skipped", message=_clean(status.reason.render()))
    suite.attrib.update({name: str(number) for name, number in counts.items()})
    suites = Tree.Element("testsuites")
    suites.append(suite)
    Tree.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + Tree.tostring(suites, encoding="unicode")


def _text(finding: Finding) -> str:
    head = f"{steps(finding.first_step, finding.last_step)}: " + ", ".join(finding.parameters)
    return "\n".join(
        part
        for part in (
            head,
            sentences((finding.cause.render(), finding.advice.render())),
            finding.where and f"{place_label(finding)}: {finding.where}",
        )
        if part
    )


def _clean(text: str) -> str:
    """Remove the characters that XML 1.0 does not allow."""
    return "".join(
        c
        for c in text
        if c in "\t\n\r"
        or 0x20 <= ord(c) <= 0xD7FF
        or 0xE000 <= ord(c) <= 0xFFFD
        or ord(c) >= 0x10000
    )
