"""Tell how a recorded program ended, when it was not by itself."""

from __future__ import annotations

import sys

from seismograd.errors import TrainingHalted
from seismograd.i18n import say
from seismograd.schema import Note


def ending_note(error: BaseException) -> Note | None:
    """Return the note that a program did not come to its end because of this exception; `None` for
    an exit without an error, and for a halt, which has its own note.

    Of the exception only its class is kept: its words may hold anything.
    """
    if isinstance(error, TrainingHalted | GeneratorExit):
        return None
    if isinstance(error, SystemExit):
        if error.code in (None, 0):
            return None
        code = int(error.code) if isinstance(error.code, int) else 1  # `True` is one
        return Note("failed", -1, say("the script exited with code {code}", code=code))
    if isinstance(error, KeyboardInterrupt):
        return Note("interrupted", -1, say("the script was interrupted (Ctrl-C)"))
    raised = say("the script stopped: it raised {error}", error=type(error).__name__)
    return Note("crashed", -1, raised)


def last_shown_exception() -> BaseException | None:
    """Return the exception whose traceback the interpreter printed last."""
    shown = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    return shown if isinstance(shown, BaseException) else None
