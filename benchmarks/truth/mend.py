"""Apply the code that a finding advises."""

from __future__ import annotations

import re

REACH = 15  # lines: how far from the place of a finding its code may stand


def mended(source: str, where: str, excerpt: str) -> list[str]:
    """Return the program with `excerpt` in place of those of its lines that stand about `where`.

    Twice where these lines are apart: with the excerpt where the first of them was, and the last.
    Nothing when the finding gives no code or place, or when it cannot be told where its code goes.
    """
    at = re.search(r"train\.py:(\d+)", where or "")
    new = [line for line in (excerpt or "").splitlines() if line.strip()]
    if not at or not new:
        return []
    lines = source.splitlines()
    place = int(at[1]) - 1
    about = range(max(0, place - REACH), min(len(lines), place + REACH + 1))
    wanted = {line.strip() for line in new}
    found = [k for k in about if lines[k].strip() in wanted]
    # Of a line that is there twice, the one nearer to the place is meant.
    gone = set({lines[k].strip(): k for k in sorted(found, key=lambda k: -abs(k - place))}.values())
    if len(gone) < len(wanted) and _same_call(lines[place], new):
        gone.add(place)
    texts = [_placed(lines, gone, at, new) for at in sorted({min(gone), max(gone)})] if gone else []
    return [text for text in texts if text != source and _compiles(text)]


def _placed(lines: list[str], gone: set[int], at: int, new: list[str]) -> str:
    """Return the lines without those that are `gone`, and the new ones at one of these."""
    indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
    margin = min(len(line) - len(line.lstrip()) for line in new)
    fresh = [indent + line[margin:] for line in new]
    kept = [fresh if k == at else [] if k in gone else [line] for k, line in enumerate(lines)]
    return "\n".join(line for part in kept for line in part) + "\n"


def _compiles(text: str) -> bool:
    try:
        compile(text, "train.py", "exec")
    except SyntaxError:
        return False
    return True


def _same_call(line: str, new: list[str]) -> bool:
    """Return whether one of the new lines makes the call of `line`, in another way."""
    calls = re.findall(r"(\w+)\(", line)
    return bool(calls) and any(calls[-1] in re.findall(r"(\w+)\(", other) for other in new)
