"""Load a rule of another package. One that cannot be loaded costs its own answer and nothing else:
it stands among the rules as one that was not evaluated, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import SEVERITIES, Finding
from seismograd.settings.added_rules import added_rule


def added_rule_class(code: str) -> type[Rule]:
    """Return the class of a rule by its code.

    Raises:
        LookupError: no package adds it.
        TypeError: it is no rule, or one of another code.
    """
    point = added_rule(code)
    if point is None:
        raise LookupError(code)
    loaded: Any = point.load()
    if not (isinstance(loaded, type) and issubclass(loaded, Rule)):
        raise TypeError(f"{point.value} is no seismograd.diagnosis.rule.Rule")
    if (loaded.code, loaded.severity in SEVERITIES) != (code, True):
        raise TypeError(f"{point.value} has the code {loaded.code!r} or no severity")
    return loaded


def make_added_rule(code: str, thresholds: Mapping[str, float]) -> Callable[[], Rule]:
    """Return the constructor of a rule, which always returns one."""

    def make() -> Rule:
        try:
            return added_rule_class(code)(**thresholds)
        except Exception as error:
            return _unloaded(code, error)

    return make


def _unloaded(code: str, error: Exception) -> Rule:
    reason = say("cannot be loaded: {error}", error=f"{type(error).__name__}: {error}"[:300])

    class Unloaded(Rule):
        """A rule that cannot be loaded."""

        name: ClassVar[str] = code.lower()
        severity: ClassVar[str] = "info"

        def observe(self, block: SharedBlock) -> Iterable[Finding]:  # noqa: ARG002
            """Find nothing."""
            return ()

        def shortfall(self) -> Message | None:
            """Return why it could not be loaded."""
            return reason

    Unloaded.code = code
    return Unloaded()
