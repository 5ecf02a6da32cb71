"""Chinese is printed where it can be read: an encoding without it would show question marks."""

from __future__ import annotations

from typing import Any

from seismograd.i18n import default_language


def holds_chinese(stream: Any) -> bool:
    """Return whether a stream's encoding has Chinese characters."""
    try:
        "中".encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def readable_language(lang: str | None, *streams: Any) -> str | None:
    """Return the language to print in: that which was asked for, else English in place of a
    Chinese that one of the streams cannot hold.
    """
    if lang is None and default_language() == "zh" and not all(map(holds_chinese, streams)):
        return "en"
    return lang
