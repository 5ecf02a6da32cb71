"""The one error that a user sees as a line instead of a traceback."""

from __future__ import annotations

from pathlib import Path

from seismograd.i18n import Message


class SeismogradError(Exception):
    """Something the user can mend: what is wrong and where, and how to mend it.

    Args:
        message: what is wrong, and where.
        hint: how to mend it; empty when there is nothing to do.
        exit_code: what the command line exits with (2: bad input or usage).
    """

    def __init__(self, message: Message, hint: Message | None = None, exit_code: int = 2) -> None:
        super().__init__(message.render())
        self.message = message
        self.hint = hint
        self.exit_code = exit_code

    def line(self) -> str:
        """The message and its mend, as one line in the language in force."""
        if self.hint is None:
            return self.message.render()
        return f"{self.message.render()} · {self.hint.render()}"


class TrainingHalted(BaseException):
    """The training is to end, as it was asked to at a finding like this one. Like
    `KeyboardInterrupt` it passes `except Exception`.

    Args:
        message: which finding, and when.
        code: of the rule.
        snapshot: the file with the gradients of the update that was not made; `None` when there is
            none.
    """

    def __init__(self, message: Message, code: str, snapshot: Path | None = None) -> None:
        super().__init__(message.render())
        self.message = message
        self.code = code
        self.snapshot = snapshot
