"""The documentation of a rule is the docstring of its class: a line that says what it is about,
then sections under fixed headings.

    What it finds
        A paragraph.

        Another one, with a threshold of the rule: {max_total_gain:g}.

Each paragraph, and each line that begins with `- `, is one message of the catalogues. Numbers that
a rule decides by are written as the names of its fields in braces, so that they cannot differ from
the code.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, mark

HEADINGS = (
    mark("What it finds"),
    mark("Why it hurts"),
    mark("How it decides"),
    mark("False alarms"),
    mark("What to try"),
    mark("References"),
)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading (a msgid) and what stands under it; a paragraph that begins with `- ` is an item
    of a list.
    """

    heading: str
    paragraphs: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Documentation:
    """The documentation of a rule, rendered where it is shown."""

    summary: Message
    sections: tuple[Section, ...]


def documentation(rule: Rule | type[Rule]) -> Documentation:
    """Return the documentation of a rule with its thresholds filled in: those of the instance, or
    the default ones of the class.

    Raises:
        ValueError: its docstring lacks a section, or they are in another order, or one is empty.
    """
    instance = rule() if isinstance(rule, type) else rule
    values = instance.thresholds()
    summary, *sections = _parts(inspect.cleandoc(type(instance).__doc__ or ""))
    if tuple(title for title, _ in sections) != HEADINGS or not all(
        paragraphs for _, paragraphs in (summary, *sections)
    ):
        raise ValueError(
            f"{type(instance).__name__}: its docstring needs a summary and the sections "
            f"{', '.join(HEADINGS)}"
        )
    return Documentation(
        _message(summary[1][0][1], values),
        tuple(
            Section(title, tuple(_message(text, values) for _, text in paragraphs))
            for title, paragraphs in sections
        ),
    )


def extract_babel(
    fileobj: IO[bytes], keywords: Any, comment_tags: Any, options: Any
) -> Iterator[tuple[Any, ...]]:
    """Extract messages for Babel: the paragraphs of the rules in a Python file, and whatever the
    method for Python finds in it.
    """
    from babel.messages.extract import extract_python

    for node in ast.walk(ast.parse(fileobj.read())):
        text = ast.get_docstring(node) if isinstance(node, ast.ClassDef) else None
        if text is not None and HEADINGS[0] in text.splitlines():
            assert isinstance(node, ast.ClassDef)
            for _, paragraphs in _parts(text):
                yield from (
                    (node.body[0].lineno + line, None, paragraph, [])
                    for line, paragraph in paragraphs
                )
    fileobj.seek(0)
    yield from extract_python(fileobj, keywords, comment_tags, options)


Part = tuple[str, list[tuple[int, str]]]  # heading, (line, paragraph)


def _parts(text: str) -> list[Part]:
    """Return the summary under an empty heading, then the sections, with the line number of each
    paragraph.
    """
    parts: list[Part] = [("", [])]
    open_paragraph = False
    for number, line in enumerate(text.splitlines()):
        stripped = line.strip()
        if line in HEADINGS:
            parts.append((line, []))
            open_paragraph = False
        elif not stripped:
            open_paragraph = False
        elif open_paragraph and not stripped.startswith("- "):
            paragraphs = parts[-1][1]
            paragraphs[-1] = (paragraphs[-1][0], f"{paragraphs[-1][1]} {stripped}")
        else:
            parts[-1][1].append((number, stripped))
            open_paragraph = True
    return parts


def _message(text: str, values: Mapping[str, float]) -> Message:
    return Message(text, dict(values) if "{" in text else {})
