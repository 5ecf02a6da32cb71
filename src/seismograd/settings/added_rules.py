"""Rules that other packages bring, by entry points; none is loaded here, because `seismograd run`
reads a selection before the script starts.
"""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint, entry_points

from seismograd.settings.rule_table import RULE_TABLE

ENTRY_POINTS = "seismograd.rules"
_CODE = re.compile(r"[A-Z][A-Z0-9]{1,15}")


def added_rules() -> tuple[EntryPoint, ...]:
    """Return the entry points of other packages' rules by code, without loading any."""
    points = {each.name: each for each in entry_points(group=ENTRY_POINTS)}
    return tuple(
        points[code] for code in sorted(points) if _CODE.fullmatch(code) and code not in RULE_TABLE
    )


def added_codes(word: str) -> tuple[str, ...]:
    """Return the codes of added rules that are this word, or begin with it. A code of seismograd's
    own, or a name that is no code, adds nothing.
    """
    if not word:
        return ()
    return tuple(each.name for each in added_rules() if each.name.startswith(word.upper()))


def added_rule(code: str) -> EntryPoint | None:
    """Return the entry point by which another package adds a rule; `None` without one."""
    return next(iter(entry_points(group=ENTRY_POINTS, name=code)), None)
