"""Findings as HTML, for notebooks: names and texts of a run are escaped, never markup."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from seismograd.i18n import translate
from seismograd.printable import printable
from seismograd.schema.findings import Finding

_MOST_NAMES = 5
_COLORS = {"error": "#c62828", "warning": "#b26a00", "info": "#1565c0"}  # read on white and black


def finding_html(finding: Finding) -> str:
    """Return what a finding says, for a notebook's cell."""
    color = _COLORS.get(finding.severity, "inherit")
    title = f'<b style="color:{color}">{_safe(finding.code)} {_safe(finding.name)}</b>'
    first, last = finding.first_step, finding.last_step
    steps = (
        translate("step {step}").format(step=first)
        if first == last
        else translate("steps {first} to {last}").format(first=first, last=last)
    )
    lines = [f"{title} · {_safe(steps)}"]
    if finding.parameters:
        lines.append(_names(finding.parameters))
    lines.append(_line(translate("Cause"), _safe(finding.cause.render())))
    if finding.where:
        lines.append(_line(place_label(finding), f"<code>{_safe(finding.where)}</code>"))
    lines.append(_line(translate("Change"), _safe(finding.advice.render())))
    if finding.excerpt:
        lines.append(f"<pre>{escape(printable(finding.excerpt, keep=chr(10)))}</pre>")
    return '<div style="margin:0.5em 0">' + "<br>".join(lines) + "</div>"


def place_label(finding: Finding) -> str:
    """Return what the line of a finding is: where the mistake is, or where it shows."""
    return translate("Seen at") if finding.seen_only else translate("Where")


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(f"<code>{_safe(name)}</code>" for name in names[:_MOST_NAMES])
    hidden = len(names) - _MOST_NAMES
    if hidden <= 0:
        return shown
    return translate("{names} and {number} more").format(names=shown, number=hidden)


def _line(label: str, text: str) -> str:
    return _safe(translate("{label}: ").format(label=label)) + text


def _safe(text: str) -> str:
    return escape(printable(text))
