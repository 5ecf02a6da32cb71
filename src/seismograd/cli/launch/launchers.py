"""Detect programs that a script starts, or becomes: they are not watched, so the user is told what
to type instead.

A launcher (`torchrun`, `accelerate launch`) starts the training in processes of its own, by a
command line; a program started in such a way shares nothing with this process that could be
watched.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAUNCHERS = (
    "torchrun",
    "torch.distributed.run",
    "torch.distributed.launch",
    "accelerate",
    "accelerate.commands",
    "deepspeed",
)
OURS = ("-m", "seismograd", "run")
# It puts the rank in front of what it hands on unless it is told not to.
OURS_OF_DEEPSPEED = ("--no_local_rank", "--module", "seismograd", "run")
HELPERS = ("torch/_inductor", "torch/_dynamo", "joblib/", "multiprocessing/")  # no trainings
WITH_VALUE = ("-W", "-X", "--check-hash-based-pycs")
MOST = 3


@dataclass(frozen=True, slots=True)
class PythonCommand:
    """A command line that runs a script or a module: `words[at]` is its name, `-m` before a
    module included.
    """

    words: tuple[str, ...]
    at: int

    @property
    def name(self) -> str:
        """The script or the module."""
        return self.words[self.at + 1] if self.words[self.at] == "-m" else self.words[self.at]

    def line(self) -> str:
        """Return the command that also records it."""
        before, after = self.words[: self.at], self.words[self.at :]
        if before == (sys.executable,) or (len(before) == 1 and before[0] == Path(before[0]).name):
            return shlex.join(("seismograd", "run", *after))
        return shlex.join((*before, *OURS, *after))


def python_command(command: object) -> PythonCommand | None:
    """Parse a command line as `subprocess` takes it; `None` when it runs neither a script nor a
    module.
    """
    try:
        if isinstance(command, Sequence) and not isinstance(command, str | bytes):
            words = tuple(os.fsdecode(word) for word in command)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        else:
            words = tuple(shlex.split(os.fsdecode(command)))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    if not words:
        return None
    first = Path(words[0]).name
    if first in LAUNCHERS:
        return PythonCommand(words, 0)
    if not first.startswith("python") and words[0] != sys.executable:
        return None
    at = 1
    while at < len(words) and words[at].startswith("-") and words[at] != "-m":
        if words[at] in ("-c", "-", "-V", "--version"):
            return None
        at += 2 if words[at] in WITH_VALUE else 1
    if at >= len(words) - (words[at : at + 1] == ("-m",)):
        return None
    found = PythonCommand(words, at)
    return (
        None if any(part in found.name for part in HELPERS) or found.name == "seismograd" else found
    )


def line_to_type(
    command: PythonCommand, target: str, is_module: bool, arguments: Sequence[str]
) -> str:
    """Return what to type to record a program that `target`, run with these arguments, has
    started.
    """
    name = Path(target).name
    if (
        any(target == each or name == each or target.startswith(f"{each}.") for each in LAUNCHERS)
        and command.name in arguments
    ):
        at = list(arguments).index(command.name)
        before, after = list(arguments[:at]), list(arguments[at:])
        if before and before[-1] in ("-m", "--module"):
            before, after = before[:-1], ["-m", *after]
        launcher = (
            ["python", "-m", target] if is_module else [name if shutil.which(name) else target]
        )
        return shlex.join((*launcher, *before, *OURS, *after))
    if name == "deepspeed":  # it starts another launcher of its own
        return launched_line((name if shutil.which(name) else target, *arguments))
    if command.at == 0:  # the launcher itself was started
        return launched_line(command.words)
    return command.line()


def launched_line(words: Sequence[str]) -> str:
    """Return a launcher's command line with `seismograd run` before the first word that is a
    script, or before its module.
    """
    is_deepspeed = Path(words[0]).name == "deepspeed"
    at, module = len(words), ()
    for number, word in enumerate(words[1:], 1):
        if is_deepspeed and word == "--module":
            at, module = number + 1, ("-m",)
            break
        if word.endswith(".py"):
            at = number
            break
    before, after = words[:at], words[at:] or ("SCRIPT",)
    if is_deepspeed:
        before = tuple(word for word in before if word not in OURS_OF_DEEPSPEED)
        return shlex.join((*before, *OURS_OF_DEEPSPEED, *module, *after))
    return shlex.join((*before, *OURS, *after))


class Launched:
    """Notes the Python programs that are started. `becoming` is called before this process
    becomes one (`os.execv`).
    """

    def __init__(self, becoming: Callable[[PythonCommand], None]) -> None:
        self.commands: list[PythonCommand] = []
        self._becoming = becoming
        self._process = os.getpid()

    def listen(self) -> None:
        """Watch for them until the end of the process."""
        with suppress(Exception):  # a later Python may not have it; then nothing is reported
            on_popen(self._started)
        for name, position in (("execv", 1), ("execve", 1), ("system", 0)):
            self._wrap(name, position)

    def _started(self, command: object) -> None:
        if os.getpid() == self._process and len(self.commands) < MOST:
            found = python_command(command)
            if found is not None and found not in self.commands:
                self.commands.append(found)

    def _wrap(self, name: str, position: int) -> None:
        original: Any = getattr(os, name, None)
        if original is None:
            return

        def call(*args: Any, **kwargs: Any) -> Any:
            with suppress(Exception):
                if name == "system":
                    self._started(args[position])
                elif os.getpid() == self._process:
                    found = python_command(args[position])
                    if found is not None:
                        self._becoming(found)
            return original(*args, **kwargs)

        call.__name__ = call.__qualname__ = name
        call.__doc__, call.__module__ = original.__doc__, original.__module__
        setattr(os, name, call)


def on_popen(report: Callable[[object], None]) -> None:
    """Call `report` with the command line of each process that `subprocess` has started.

    Nothing is wrapped, so no frame of ours is in a traceback: `Popen` notes in an attribute of its
    own that the process exists.
    """
    name = "_child_created"
    if vars(subprocess.Popen)[name] is not False:
        raise AttributeError(name)

    def is_there(self: Any) -> bool:
        return name in vars(self) and vars(self)[name] is True

    def note(self: Any, value: bool) -> None:
        vars(self)[name] = value
        if value:
            with suppress(Exception):
                report(self.args)

    setattr(subprocess.Popen, name, property(is_there, note))


def short(command: PythonCommand) -> str:
    """Return a short name for it in a sentence."""
    return Path(command.name).name
