"""The blocks of code in a page of the documentation, and what each one is.

```python title="train.py"     a file of the reader's, written as it stands (any language)
```diff title="train.py"       a change of such a file
```python                      code that the reader types; it knows what earlier blocks have defined
```text                        what the code before it prints
```console                     commands after `$ `, with what each prints; `…` stands for any lines
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

FENCE = re.compile(
    r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<body>.*?)^```$',
    re.DOTALL | re.MULTILINE,
)
ELLIPSIS = "…"


@dataclass(frozen=True)
class Block:
    """One block of code."""

    language: str
    title: str | None
    body: str
    start: int
    """Where the body begins in the text of the page."""


@dataclass
class Command:
    """One command of a console block, and what the page says that it prints."""

    words: str
    expected: list[str] = field(default_factory=list)


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(each["language"], each["title"], each["body"], each.start("body"))
        for each in FENCE.finditer(text)
    ]


def commands_of(body: str) -> list[Command]:
    """Return the commands of a console block."""
    commands: list[Command] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            commands.append(Command(line[2:]))
        elif commands:
            commands[-1].expected.append(line)
        else:
            raise ValueError(f"a console block begins with a command, not with {line!r}")
    return commands


def changed(source: str, change: str) -> str:
    """Return the source after a change, of which the old lines must stand in it once."""
    lines = change.splitlines(keepends=True)
    old = "".join(line[1:] for line in lines if line[0] in " -")
    new = "".join(line[1:] for line in lines if line[0] in " +")
    if source.count(old) != 1:
        raise ValueError(f"{source.count(old)} places for\n{old}")
    return source.replace(old, new)
