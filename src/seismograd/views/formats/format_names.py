"""The names that options take: output formats, severities. The help of a command needs them before
NumPy may load; `format_list` has a renderer for each format, in the same order.
"""

from __future__ import annotations

STEP_FORMAT_NAMES = ("table", "plain", "json")
DIAGNOSIS_FORMAT_NAMES = ("text", "json", "github", "sarif", "junit")
WHY_FORMAT_NAMES = ("text", "json")
SEVERITY_NAMES = ("error", "warning", "info")


def as_metavar(names: tuple[str, ...]) -> str:
    """Return the choices as a usage line shows them."""
    return "|".join(names)
