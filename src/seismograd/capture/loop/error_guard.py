"""Keep our failures away from the training: an error is counted, reported once, and the part that
keeps failing is disabled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from seismograd.exception_origin import raised_by_user
from seismograd.i18n import Message, say

T = TypeVar("T")

MAX_FAILURES = 3


class ErrorGuard:
    """Runs our callbacks. An exception in one is reported through `report(part, error)`; after
    `MAX_FAILURES` the part is disabled.

    The program's own exceptions propagate; see `whose`.
    """

    def __init__(self, report: Callable[[str, BaseException], None]) -> None:
        self._report = report
        self.failures: dict[str, int] = {}

    def failed(self, part: str, error: BaseException) -> None:
        """Count a failure of `part`, and report its first."""
        count = self.failures[part] = self.failures.get(part, 0) + 1
        if count == 1:
            try:
                self._report(part, error)
            except Exception as another:
                if raised_by_user(another):
                    raise
                self.failures["report"] = self.failures.get("report", 0) + 1

    def leaves_out(self, part: str) -> bool:
        """Return whether the part has failed too often."""
        return bool(self.failures) and self.failures.get(part, 0) >= MAX_FAILURES

    def call(self, part: str, function: Callable[..., T], *args: object) -> T | None:
        """Return `function(*args)`, or `None` when it failed or has failed too often."""
        if self.failures and self.leaves_out(part):
            return None
        try:
            return function(*args)
        except Exception as error:
            if raised_by_user(error):
                raise
            self.failed(part, error)
            return None


def failure_message(part: str, error: BaseException) -> Message:
    """Return what a note says of the failure of a part."""
    return say(
        "a part of seismograd failed and was disabled: {part}: {error}",
        part=part,
        error=f"{type(error).__name__}: {error}",
    )
