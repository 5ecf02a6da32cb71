"""End the process in the interpreter's order.

`python script.py` ends in an order of its own: the main program returns or raises, what it raised
is shown, threads are notified and awaited (`threading._shutdown`), then what was registered with
`atexit` is called, the last first. Anything of ours that comes earlier would hold up, or miss, a
part of that.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any


def at_the_very_end(call: Callable[[], None]) -> None:
    """Call a function after all that the script registers with `atexit`, so register it before; not
    in a forked child.
    """
    process = os.getpid()

    def last() -> None:
        if os.getpid() == process:
            call()

    atexit.register(last)


def flush_output() -> None:
    """Flush what the script printed. Where that fails, the interpreter will report it, as it does
    without us.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()


class Interrupt:
    """An uncaught KeyboardInterrupt: the interpreter then ends itself by SIGINT, and a shell sees
    130.

    It keeps that in one place, which each `exec` of source text clears: creating a dataclass or a
    named tuple at exit turns 130 into 1. Where nothing of the script's did so, nothing of ours may.
    """

    def __init__(self) -> None:
        self._forgotten = False
        sys.addaudithook(self._hear)  # it stays, but the process is about to end

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "exec" and getattr(arguments[0], "co_filename", None) == "<string>":
            self._forgotten = True

    @contextmanager
    def kept(self) -> Generator[None]:
        """Run a function after which the interpreter still remembers the interrupt."""
        forgotten = self._forgotten
        try:
            yield
        finally:
            if not forgotten:
                with suppress(KeyboardInterrupt):
                    exec("raise KeyboardInterrupt")


def end_with(code: int) -> None:
    """End now with this exit code. All that remains after the last `atexit` is to take modules
    apart.
    """
    flush_output()
    os._exit(code)
