"""Format single values: numbers, counts, shares, shapes and states."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from seismograd.i18n import mark, translate
from seismograd.schema import Finding, State

NOTHING = "–"

STATE_CODES = {
    State.NOT_MEASURED: "not measured",
    State.ABSENT: "absent",
    State.ZERO: "zero",
    State.FINITE: "finite",
    State.NONFINITE: "non-finite",
}
STATE_WORDS = {
    State.NOT_MEASURED: mark("not measured"),
    State.ABSENT: mark("no gradient"),
    State.ZERO: mark("all zero"),
    State.FINITE: mark("finite"),
    State.NONFINITE: mark("non-finite"),
}
STATE_STYLES = {
    State.NOT_MEASURED: "dim",
    State.ABSENT: "yellow",
    State.ZERO: "yellow",
    State.FINITE: "green",
    State.NONFINITE: "bold red",
}
SEVERITY_WORDS = {"error": mark("error"), "warning": mark("warning"), "info": mark("info")}
SEVERITY_STYLES = {"error": "bold red", "warning": "bold yellow", "info": "bold cyan"}


def state_word(state: State) -> str:
    """Return the state in the current language."""
    return translate(STATE_WORDS[state])


def severity_word(severity: str) -> str:
    """Return the severity in the current language."""
    return translate(SEVERITY_WORDS[severity])


def number(value: float, digits: int = 4) -> str:
    """Return the value to so many significant digits; `nan`, `inf` and `-inf` unchanged."""
    return f"{value:.{digits}g}"


def count(value: int) -> str:
    """Return the count with thousands separators."""
    return f"{value:,}"


def share(part: int, whole: int) -> str:
    """Return the part in percent to one decimal; `0%` and `100%` only when they are exact."""
    if part == 0 or whole == 0:
        return "0%"
    if part == whole:
        return "100%"
    hundredths = 100 * part / whole
    if hundredths < 0.05 or hundredths >= 99.95:
        return "<0.1%" if hundredths < 50 else ">99.9%"
    return f"{hundredths:.1f}%"


def percent(value: float) -> str:
    """Return a share in percent."""
    return "nan" if math.isnan(value) else f"{100 * value:.3g}%"


def shape(sizes: Sequence[int]) -> str:
    """Return a shape as torch prints it, without its `torch.Size`."""
    return f"[{', '.join(map(str, sizes))}]"


def some(names: Sequence[str], most: int = 5) -> str:
    """Return the names, at most so many of them, and how many more there are."""
    shown = ", ".join(names[:most])
    hidden = len(names) - most
    return (
        translate("{names} and {number} more").format(names=shown, number=hidden)
        if hidden > 0
        else shown
    )


def steps(first: int, last: int) -> str:
    """Return a range of steps."""
    return (
        translate("step {step}").format(step=first)
        if first == last
        else translate("steps {first} to {last}").format(first=first, last=last)
    )


def sentences(parts: Iterable[str]) -> str:
    """Return short statements on one line."""
    return " · ".join(part for part in parts if part)


def location_of(finding: Finding) -> tuple[str, int]:
    """Return the user's file and line of the mistake; `("", 0)` where it is not known: the line at
    which a fault only shows is innocent.
    """
    if finding.seen_only:
        return "", 0
    file, colon, line = finding.where.rpartition(":")
    return (file, int(line)) if colon and line.isdecimal() else ("", 0)


def short_path(path: Path, home: Path | None = None) -> str:
    """Return the path as one would type it here, or in the folder `home`, quoted for a shell."""
    here = Path.cwd() if home is None else home
    return shlex.quote(os.path.relpath(path, here) if path.is_relative_to(here) else str(path))


def size(num_bytes: int) -> str:
    """Return a number of bytes in the largest unit in which it is not below 1."""
    rest, units = float(num_bytes), ["B", "kB", "MB", "GB", "TB"]
    while rest >= 1000 and len(units) > 1:
        rest, units = rest / 1000, units[1:]
    return f"{rest:.0f} {units[0]}" if rest >= 10 or units[0] == "B" else f"{rest:.1f} {units[0]}"
