"""The definition of a command: an entry of the list, and what its function may return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


class DeferredCommand(Protocol):
    """Work to do when the command line has been read and everything it changed in the process is
    restored.

    `seismograd run` returns one, so that the user's script runs outside the argument parser and
    outside every `try` of ours.
    """

    def execute(self) -> int:
        """Run it and return the exit code. Any exception, `SystemExit` included, goes on to the
        interpreter.
        """
        ...


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """One command: its name, the function that typer reads its parameters from, one sentence,
    examples, typer's context settings.

    The function returns nothing, an exit code, or a `DeferredCommand`.
    """

    name: str
    function: Callable[..., int | DeferredCommand | None]
    summary: str
    examples: tuple[str, ...] = ()
    context: Mapping[str, object] = field(default_factory=dict[str, object])
