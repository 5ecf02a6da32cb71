"""The one error that a user sees as a line instead of a traceback."""

from __future__ import annotations

from pathlib import Path

from seismograd.i18n import Message, say


class SeismogradError(Exception):
    """An error that the user can fix: what is wrong and where, and how to fix it.

    Args:
        message: what is wrong, and where.
        hint: how to fix it; empty when there is nothing to do.
        exit_code: what the command line exits with (2: bad input or usage).
    """

    def __init__(self, message: Message, hint: Message | None = None, exit_code: int = 2) -> None:
        super().__init__(message.render())
        self.message = message
        self.hint = hint
        self.exit_code = exit_code
        if hint is not None:
            self.add_note(hint.render())  # a traceback shows it below the message

    def line(self) -> str:
        """Return the message and its hint, as one line in the current language."""
        if self.hint is None:
            return self.message.render()
        return f"{self.message.render()} · {self.hint.render()}"


def unreadable(path: Path, error: Exception) -> SeismogradError:
    """Return the error about a run that broke a reader in a way that none foresaw: it is damaged,
    or too large for the memory.
    """
    return SeismogradError(
        say(
            "{path} cannot be read: {kind}: {reason}",
            path=str(path),
            kind=type(error).__name__,
            reason=str(error)[:200],
        ),
        say("it is damaged, or does not fit into memory"),
    )


class TrainingHalted(BaseException):
    """Stop the training, as requested for such a finding. Like `KeyboardInterrupt` it passes
    `except Exception`.

    Args:
        message: which finding, and when.
        code: of the rule.
        snapshot: the file with the gradients of the update that was not made; `None` when there is
            none.
        samples: the samples of the batch at fault, as far as they are known: their indices.
    """

    exit_code = 1  # of `seismograd run`

    def __init__(
        self,
        message: Message,
        code: str,
        snapshot: Path | None = None,
        samples: tuple[int, ...] = (),
    ) -> None:
        super().__init__(message.render())
        self.message = message
        self.code = code
        self.snapshot = snapshot
        self.samples = samples


class ResumptionRefused(TrainingHalted):
    """Stop the training: the record that it was to go on in is of another model, say. Nothing in
    that was changed.

    Args:
        error: why.
    """

    exit_code = 2

    def __init__(self, error: SeismogradError) -> None:
        super().__init__(error.message, "")
        self.error = error
