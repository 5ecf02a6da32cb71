"""Make text that comes from elsewhere (a record, a model's names) safe to print on one line."""

from __future__ import annotations

import re

# What moves the cursor, starts a terminal's escape sequence, ends a line, or reorders text: C0,
# DEL, C1, the line and paragraph separators, marks and overrides of direction, and halves of
# surrogate pairs, which no encoding holds.
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str, keep: str = "") -> str:
    r"""Return the text with each character that is not printable as its escape in Python, except
    those in `keep`.

    >>> printable("weight\x1b[2J")
    'weight\\x1b[2J'
    """
    if text.isascii() and text.isprintable():
        return text
    return _UNPRINTABLE.sub(
        lambda found: (
            found[0]
            if found[0] in keep
            else found[0].encode("unicode_escape").decode()
            if not "\ud800" <= found[0] <= "\udfff"
            else f"\\u{ord(found[0]):04x}"
        ),
        text,
    )
