"""Apply the code that a finding advises."""

from __future__ import annotations

import re

REACH = 15  # lines: how far from the place of a finding its code may stand


def mended(source: str, where: str, excerpt: str) -> str | None:
    """Return the program with `excerpt` in place of those of its lines that stand about `where`.

    None when the finding gives no code or place, or when it cannot be told where its code goes.
    """
    at = re.search(r"train\.py:(\d+)", where or "")
    new = [line for line in (excerpt or "").splitlines() if line.strip()]
    if not at or not new:
        return None
    lines = source.splitlines()
    place = int(at[1]) - 1
    about = range(max(0, place - REACH), min(len(lines), place + REACH + 1))
    wanted = {line.strip() for line in new}
    found = [k for k in about if lines[k].strip() in wanted]
    # Of a line that is there twice, the one nearer to the place is meant.
    known = {lines[k].strip(): k for k in sorted(found, key=lambda k: -abs(k - place))}
    gone = set(known.values())
    if len(gone) < len(wanted):
        gone |= {k for k in (place,) if _same_call(lines[k], new)}
    if not gone:
        return None
    first = min(gone)
    indent = lines[first][: len(lines[first]) - len(lines[first].lstrip())]
    margin = min(len(line) - len(line.lstrip()) for line in new)
    kept = [line for k, line in enumerate(lines) if k not in gone]
    kept[first:first] = [indent + line[margin:] for line in new]
    text = "\n".join(kept) + "\n"
    try:
        compile(text, "train.py", "exec")
    except SyntaxError:
        return None
    return text if text != source else None


def _same_call(line: str, new: list[str]) -> bool:
    """Return whether one of the new lines makes the call of `line`, in another way."""
    calls = re.findall(r"(\w+)\(", line)
    return bool(calls) and any(calls[-1] in re.findall(r"(\w+)\(", other) for other in new)
