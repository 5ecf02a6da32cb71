"""The findings of one rule as a run goes on: each is found once, then its last step moves on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from seismograd.schema import Finding


@dataclass(slots=True)
class FindingTracker:
    """One finding for each optimizer, -1 standing for all of them together.

    A rule adds a finding once, extends it while the fault goes on, and yields what `take` returns:
    those that are new or have changed since the last call.
    """

    _found: dict[int, Finding] = field(default_factory=dict[int, Finding])
    _changed: dict[int, None] = field(default_factory=dict[int, None])  # in this order

    def __contains__(self, optimizer: int) -> bool:
        return optimizer in self._found

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._found.values())

    def __len__(self) -> int:
        return len(self._found)

    def get(self, optimizer: int = -1) -> Finding | None:
        """Return what was found about this optimizer, `None` before that."""
        return self._found.get(optimizer)

    @property
    def first(self) -> Finding | None:
        """The finding that was added first, for rules that make no second one."""
        return next(iter(self), None)

    def add(self, finding: Finding) -> None:
        """Keep a finding, in place of the one about the same optimizer."""
        self._found[finding.optimizer] = finding
        self._changed[finding.optimizer] = None

    def extend(self, last_step: int, optimizer: int = -1) -> None:
        """The fault goes on until this iteration; one before the last step changes nothing but
        is reported again.
        """
        found = self._found[optimizer]
        self.add(replace(found, last_step=max(found.last_step, last_step)))

    def take(self) -> list[Finding]:
        """Return the findings that are new or have changed since the last call."""
        taken, self._changed = list(self._changed), {}
        return [self._found[optimizer] for optimizer in taken]
