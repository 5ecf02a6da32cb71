"""The names of the output formats. The help of a command needs them before NumPy may load;
`format_list` has a renderer for each, in the same order.
"""

from __future__ import annotations

STEP_FORMAT_NAMES = ("table", "plain", "json")
DIAGNOSIS_FORMAT_NAMES = ("text", "json", "github", "sarif", "junit")


def as_metavar(names: tuple[str, ...]) -> str:
    """Return the choices as a usage line shows them."""
    return "|".join(names)
