"""Ask the system whether there is a process of a number. Loads nothing, because it runs before the
user's script.
"""

from __future__ import annotations

import os


def answers(process: int) -> bool | None:
    """Return whether a process has this number; `None` where the system cannot be asked."""
    if os.name != "posix":  # on Windows, signal 0 is Ctrl-C
        return None
    try:
        os.kill(process, 0)
    except PermissionError:
        return True  # another user's
    except (OSError, OverflowError):
        return False
    return process > 0
