"""Print on any terminal: characters that its encoding cannot hold are written with those it can."""

from __future__ import annotations

import codecs
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

_NAME = "seismograd"
_ALIKE = {
    "×": "x",
    "→": "->",
    "·": "-",
    "…": "...",
    "–": "-",
    "—": "-",
    "✓": "ok",
    "“": '"',
    "”": '"',
    "≤": "<=",
    "≥": ">=",
    "│": "|",
    "┤": "+",
    "└": "+",
    "─": "-",
    "█": "#",
}


def _instead(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_ALIKE.get(char, "?") for char in text), error.end


codecs.register_error(_NAME, _instead)


@contextmanager
def any_terminal(*streams: Any) -> Generator[None]:
    """Print something alike, or `?`, for what the encoding of a stream cannot hold, instead of
    ending with an error; the streams are restored afterwards.
    """
    changed: list[tuple[Any, str]] = []
    for stream in streams:
        if hasattr(stream, "reconfigure") and not stream.closed:  # a test's may not have it
            changed.append((stream, stream.errors or "strict"))
            stream.reconfigure(errors=_NAME)
    try:
        yield
    finally:
        for stream, errors in changed:
            if not stream.closed:
                stream.reconfigure(errors=errors)
