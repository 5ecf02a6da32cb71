"""The words of a finding, as templates that a table can hold."""

from __future__ import annotations

from typing import NamedTuple


class AdviceWords(NamedTuple):
    """Templates of cause and advice, marked for translation, and of a line of code."""

    cause: str
    advice: str
    code: str = ""
