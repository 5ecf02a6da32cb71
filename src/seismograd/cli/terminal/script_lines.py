"""Recognize a command line that means `seismograd run`, as one types it out of habit."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from seismograd.cli.launch.launchers import LAUNCHERS, launched_line, python_command

_RUN = ("seismograd", "run")


def script_line(words: Sequence[str]) -> str | None:
    """Return what to type for `seismograd train.py …` or `seismograd python train.py …`; `None` for
    what names no script.
    """
    program = program_line(words)
    if program is not None:
        return program
    if not words or words[0].startswith("-"):
        return None
    is_script = words[0].endswith(".py") or (Path(words[0]) / "__main__.py").is_file()
    return shlex.join((*_RUN, *words)) if is_script else None


def program_line(words: Sequence[str]) -> str | None:
    """Return what to type for `seismograd run python train.py …` or `seismograd run torchrun …`;
    `None` for anything else.
    """
    if not words:
        return None
    if Path(words[0]).name in LAUNCHERS:
        return launched_line(words)
    command = python_command(tuple(words))
    if command is None or command.at == 0:
        return None
    return shlex.join((*_RUN, *words[command.at :]))
