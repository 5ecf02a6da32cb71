"""Lay out running text on a terminal: broken into lines by the width of its characters, Chinese
included. Standard library only.
"""

from __future__ import annotations

import re
import unicodedata

_NOT_FIRST = "，。、；：！？）》」』”’…,.;:!?)]}%·"
_NOT_LAST = "（《「『“‘([{"
_PIECES = re.compile(r"\s+|[^\s\u2e80-\u9fff\uf900-\ufaff\uff00-\uff60]+|.")


def cell_width(text: str) -> int:
    """Return how many terminal cells the text takes: two for a wide character, none for a combining
    one.
    """
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def pad(text: str, width: int) -> str:
    """Return the text, filled with spaces to `width` cells."""
    return text + " " * (width - cell_width(text))


def wrap(text: str, width: int) -> list[str]:
    """Return the lines of one paragraph, at most `width` cells each where its words allow.

    A line may end between words or next to a wide character, but never before a closing punctuation
    mark nor after an opening one.
    """
    lines: list[str] = []
    line = ""
    for unit in _units(text):
        if line and cell_width((line + unit).rstrip()) > width:
            lines.append(line.rstrip())
            line = unit.lstrip()
        else:
            line += unit
    return [*lines, line.rstrip()] if line.strip() else lines


def wrap_code(line: str, width: int) -> list[str]:
    """Return a line of code as it is, or where it is too long in several at its spaces, the later
    ones indented.
    """
    if cell_width(line) <= width:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()))
    first, *others = wrap(line, max(1, width - len(indent) - 4))
    return [indent + first, *(f"{indent}    {each}" for each in others)]


def _units(text: str) -> list[str]:
    """Return the smallest pieces that must stay together; white space belongs to the piece before
    it.
    """
    units: list[str] = []
    for piece in _PIECES.findall(" ".join(text.split())):
        joined = units and (piece.isspace() or piece[0] in _NOT_FIRST or units[-1][-1] in _NOT_LAST)
        if joined:
            units[-1] += piece
        else:
            units.append(piece)
    return units
