"""Carry out a page as its reader would: files, changes, code and commands, in an empty folder.

Each command is a process of its own, forked from this one, in which torch is imported already: a
page of ten commands takes a second where ten interpreters would take twenty.
"""

from __future__ import annotations

import os
import runpy
import shlex
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.documents.page_blocks import Block, blocks_of, changed, commands_of

ROOT = Path(__file__).parent.parent.parent
COLUMNS = 80


@dataclass(frozen=True)
class Printed:
    """What a command or a block of code printed, beside what the page says."""

    block: Block
    command: str
    expected: list[str]
    actual: list[str]


class PageRun:
    """A reader's folder, and what they do in it."""

    def __init__(self, language: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="seismograd-page-"))
        # Where the page says `examples/…`, and where that looks for its digits.
        (self.folder / "examples").symlink_to(ROOT / "examples")
        self._language = language
        self._code: list[str] = []
        self._exit_code = 0

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder)

    def carry_out(self, page: Path) -> list[Printed]:
        """Do what the page says; return what was printed where the page shows it."""
        printed: list[Printed] = []
        blocks = blocks_of(page)
        for block, after in zip(blocks, [*blocks[1:], None], strict=True):
            if block.language == "console":
                for command in commands_of(block.body):
                    actual = self._command(command.words)
                    printed.append(Printed(block, command.words, command.expected, actual))
            elif block.language == "diff" and block.title:
                path = self.folder / block.title
                path.write_text(changed(path.read_text("utf-8"), block.body), "utf-8")
            elif block.title:
                (self.folder / block.title).write_text(block.body, "utf-8")
            elif block.language == "python":
                actual = self._typed(block.body)
                shown = after if after is not None and after.language == "text" else None
                expected = [] if shown is None else shown.body.splitlines()
                printed.append(Printed(shown or block, "python", expected, actual))
        return printed

    def _command(self, words: str) -> list[str]:
        match shlex.split(words, comments=True):
            case ["echo", "$?"]:
                return [str(self._exit_code)]
            case ["seismograd", *arguments]:
                module = "seismograd"
            case ["python", script, *arguments]:
                return self._in_a_process(lambda: _run_path(script, arguments))
            case _:
                raise ValueError(f"not a command that pages may name: {words}")
        return self._in_a_process(lambda: _run_module(module, arguments))

    def _typed(self, code: str) -> list[str]:
        earlier = list(self._code)
        self._code.append(code)

        def work() -> None:
            names: dict[str, object] = {"__name__": "__main__"}
            printing, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: PTH123, SIM115
            for each in earlier:
                exec(compile(each, "<page>", "exec"), names)
            sys.stdout = printing
            exec(compile(code, "<page>", "exec"), names)

        lines = self._in_a_process(work)
        if self._exit_code:
            raise ValueError("\n".join(lines))
        return lines

    def _in_a_process(self, work: Callable[[], None]) -> list[str]:
        """Return the lines that the work prints, on either stream."""
        sys.stdout.flush()
        output = self.folder / ".output"
        child = os.fork()
        if child == 0:
            with output.open("wb") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            os.chdir(self.folder)
            os.environ.update(
                LANGUAGE=self._language, COLUMNS=str(COLUMNS), PYTHONUNBUFFERED="1", NO_COLOR="1"
            )
            sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
            raise InChild(work)
        self._exit_code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return [line.rstrip() for line in output.read_text("utf-8").strip("\n").splitlines()]


class InChild(BaseException):
    """Unwinds the stack of a forked process, which then does its work as a program of its own."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__()
        self.work = work


def _run_module(module: str, arguments: list[str]) -> None:
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _run_path(script: str, arguments: list[str]) -> None:
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).parent))
    try:
        runpy.run_path(script, run_name="__main__")
    except Exception:  # as the interpreter would
        traceback.print_exc()
        sys.exit(1)
