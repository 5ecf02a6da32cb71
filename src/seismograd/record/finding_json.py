"""Convert messages and findings to JSON and back.

In a record a message keeps its template and values, so that it is rendered in the reader's
language; `check --format json` passes `text=Message.render` to get text.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from seismograd.i18n import Message, Value
from seismograd.record.strict_json import number, scalar
from seismograd.record.validation import build, checked, count, mapping, text
from seismograd.schema import SEVERITIES, Conclusion, Evidence, Finding, RuleStatus

_LAYOUT = "\n\t"  # lines of code and of a text are kept apart
_FORMATTER = string.Formatter()
# alignment, sign, thousands, width and precision of two digits, type: a width of 10**9 would take
# as many bytes; or the words for one and for several, or the article, of `i18n`
_SPEC = re.compile(r"[<>^]?[+]?0?\d{0,2},?(\.\d{1,2})?[defgEFG%s]?|[^{}|:]*\|[^{}|:]*|the")


def message_to_json(message: Message) -> dict[str, object]:
    """Return template and values; a value that is not a finite number is distinguished from text by
    `{"float": "nan"}`, and a message among them is written likewise.
    """
    return {
        "template": message.template,
        "values": {name: _value_to_json(value) for name, value in message.values.items()},
    }


def message_from_json(data: Any) -> Message:
    """Return the message that `message_to_json` wrote.

    Raises:
        ValueError: it has places that no value fills, or formats that no text of seismograd has.
    """
    values = {
        text(name): _value_from_json(value) for name, value in mapping(data["values"]).items()
    }
    template = text(data["template"], keep=_LAYOUT)
    for _, place, spec, conversion in _FORMATTER.parse(template) if values else ():
        if place is not None and (
            place not in values or conversion or not _SPEC.fullmatch(spec or "")
        ):
            raise ValueError(template[:40])
    return Message(template, values)


def finding_to_json(
    finding: Finding, text: Callable[[Message], object] = message_to_json
) -> dict[str, object]:
    """Return a finding as a JSON object; `text` converts its two messages."""
    return {
        "code": finding.code,
        "name": finding.name,
        "severity": finding.severity,
        "optimizer": finding.optimizer,
        "first_step": finding.first_step,
        "last_step": finding.last_step,
        "parameters": list(finding.parameters),
        "evidence": [
            {
                "statistic": each.statistic,
                "parameter": each.parameter,
                "step": each.step,
                "value": float(each.value),
                "limit": float(each.limit),
            }
            for each in finding.evidence
        ],
        "cause": text(finding.cause),
        "advice": text(finding.advice),
        "where": finding.where,
        "excerpt": finding.excerpt,
        "related": list(finding.related),
        **({"seen_only": True} if finding.seen_only else {}),
    }


def finding_from_json(data: Any) -> Finding:
    """Return the finding that `finding_to_json` wrote; raises `KeyError`, `TypeError` or
    `ValueError` for anything else.
    """
    return Finding(
        code=text(data["code"]),
        name=text(data["name"]),
        severity=_severity(data["severity"]),
        optimizer=count(data["optimizer"]),
        first_step=count(data["first_step"]),
        last_step=count(data["last_step"]),
        parameters=_texts(data["parameters"]),
        evidence=tuple(build(Evidence, each) for each in data["evidence"]),
        cause=message_from_json(data["cause"]),
        advice=message_from_json(data["advice"]),
        where=text(data["where"]),
        excerpt=text(data["excerpt"], keep=_LAYOUT),
        related=_texts(data["related"]),
        seen_only=data.get("seen_only", False) is True,
    )


def is_later_version(new: Finding, old: Finding) -> bool:
    """Return whether `new` is a later version of `old`: the same rule, optimizer and first step,
    and parameters in common.

    The last step, the evidence, the severity and the rest of the parameters may have changed. Two
    causes of one rule that begin at one step in different parameters stay two findings.
    """
    same_location = (new.code, new.optimizer, new.first_step) == (
        old.code,
        old.optimizer,
        old.first_step,
    )
    return same_location and (
        new.parameters == old.parameters or not set(new.parameters).isdisjoint(old.parameters)
    )


def current_findings(versions: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the last version of each, in the order in which they were first found; one that joins
    several takes the place of the first.
    """
    current: list[Finding] = []
    for new in versions:
        position = next(
            (index for index, old in enumerate(current) if is_later_version(new, old)), len(current)
        )
        current = [
            *current[:position],
            new,
            *(old for old in current[position:] if not is_later_version(new, old)),
        ]
    return tuple(current)


def conclusion_to_json(conclusion: Conclusion) -> dict[str, object]:
    """Return the last line of `findings.jsonl`."""
    return {
        "final": [finding_to_json(finding) for finding in conclusion.findings],
        "rules": [
            {
                "code": each.code,
                "name": each.name,
                "status": each.status,
                "reason": message_to_json(each.reason),
                "thresholds": dict(conclusion.thresholds.get(each.code, {})),
            }
            for each in conclusion.statuses
        ],
    }


def finding_line_from_json(data: Any) -> Finding | Conclusion:
    """Return a line of `findings.jsonl`: a finding of the running rules, or their conclusion."""
    if "final" not in data:
        return finding_from_json(data)
    rules: list[Any] = data.get("rules", [])  # missing in older records
    return Conclusion(
        tuple(map(finding_from_json, data["final"])),
        tuple(build(RuleStatus, each, reason=message_from_json(each["reason"])) for each in rules),
        {
            text(each["code"]): {
                text(name): number(value) for name, value in mapping(each["thresholds"]).items()
            }
            for each in rules
        },
    )


def findings_from_lines(lines: Sequence[Finding | Conclusion]) -> tuple[Finding, ...]:
    """Return the findings of a record: those of the last conclusion, else those found while it
    ran.
    """
    concluded: tuple[Finding, ...] = ()
    found: list[Finding] = []
    for line in lines:
        if isinstance(line, Conclusion):
            concluded, found = line.findings, []
        else:
            found.append(line)
    return current_findings((*concluded, *found)) if found else concluded


def _value_to_json(given: Value | Message) -> object:
    if isinstance(given, Message):
        return message_to_json(given)
    value = scalar(given)
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    return value


def _value_from_json(value: Any) -> Value | Message:
    if isinstance(value, dict):
        if "template" in value:
            return message_from_json(value)
        return number(cast("dict[str, str]", value)["float"])
    if isinstance(value, str):
        return text(value, keep=_LAYOUT)
    if isinstance(value, int | float):
        return value
    raise ValueError(str(value)[:40])


def _severity(value: Any) -> str:
    if value not in SEVERITIES:
        raise ValueError(str(value)[:40])
    return cast("str", value)


def _texts(value: Any) -> tuple[str, ...]:
    return checked(tuple[str, ...], value)
