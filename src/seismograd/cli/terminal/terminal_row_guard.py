"""Restore the terminal's last row when a process is killed in a way that it cannot notice.

A shell waits for the end of a pipe that only that process holds. The system closes it with the
process, whatever ended it; the shell then lets the whole terminal scroll again, clears the row and
ends too. It is no child of the process, so a script that waits for its own children meets no other;
it has a session of its own, so no key and no hang-up reaches it.
"""

from __future__ import annotations

import os
import subprocess

# for printf; a row that does not exist is the last one
GIVE_BACK = r"\0337\033[r\033[999;1H\033[2K\0338"
_SHELL = "/bin/sh"
_WAIT = f"exec 3<&0; (read -r _ <&3 || printf '{GIVE_BACK}') &"


def guard_terminal_row(terminal: int) -> int | None:
    """Start the shell, and return the end of the pipe that `release_terminal_row` takes; `None`
    where there is no shell.
    """
    reading, writing = os.pipe()  # neither is inherited by programs that the script starts
    try:
        subprocess.run(
            [_SHELL, "-c", _WAIT],
            stdin=reading,
            stdout=terminal,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            check=True,
        )
    # RuntimeError: the interpreter is shutting down
    except (OSError, RuntimeError, subprocess.SubprocessError):
        os.close(writing)
        return None
    finally:
        os.close(reading)
    return writing


def release_terminal_row(writing: int) -> None:
    """Tell the shell that the row is already restored, so that it ends silently."""
    try:
        os.write(writing, b"\n")
    except OSError:
        pass  # it is gone
    finally:
        os.close(writing)
