"""Read single keys from the terminal, without waiting for Enter; the terminal is restored
afterwards.
"""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Generator
from contextlib import contextmanager

_NAMES = {
    "\x1b[A": "up",
    "\x1bOA": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[H": "home",
    "\x1b[F": "end",
}

ReadKeys = Callable[[float], list[str]]


@contextmanager
def single_keys() -> Generator[ReadKeys]:
    """Yield a function that waits up to some seconds for keys and returns those pressed."""
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def read(timeout_s: float) -> list[str]:
        if not select.select([terminal], [], [], timeout_s)[0]:
            return []
        return split_keys(os.read(terminal, 1024).decode("utf-8", "replace"))

    try:
        tty.setcbreak(terminal)
        yield read
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def split_keys(text: str) -> list[str]:
    """Return the keys in the terminal's input: names for those sent as a sequence, characters for
    the others.
    """
    keys: list[str] = []
    while text:
        found = next((sequence for sequence in _NAMES if text.startswith(sequence)), None)
        keys.append(_NAMES[found] if found else text[0])
        text = text[len(found) :] if found else text[1:]
    return keys
