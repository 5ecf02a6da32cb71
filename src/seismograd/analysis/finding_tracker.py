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

    def add(self, finding: Finding) -> None:
        """Add a finding, replacing the one about the same optimizer."""
        self._found[finding.optimizer] = finding
        self._changed[finding.optimizer] = None

    def extend(self, last_step: int, optimizer: int | None = None) -> None:
        """Extend a finding to this iteration, for this optimizer or, in a rule that makes a single
        finding, whatever that is about. The last step never moves back.
        """
        found = next(iter(self)) if optimizer is None else self._found[optimizer]
        self.add(replace(found, last_step=max(found.last_step, last_step)))

    def add_or_extend(self, finding: Finding) -> None:
        """Add the first finding about an optimizer; of later ones take only the last step."""
        if finding.optimizer in self:
            self.extend(finding.last_step, finding.optimizer)
        else:
            self.add(finding)

    def take(self) -> list[Finding]:
        """Return the findings that are new or have changed since the last call."""
        if not self._changed:
            return []
        taken, self._changed = list(self._changed), {}
        return [self._found[optimizer] for optimizer in taken]
