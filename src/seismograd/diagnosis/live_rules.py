"""The rules while a training runs: findings are published the moment they are found."""

from __future__ import annotations

from collections.abc import Callable

from seismograd.diagnosis.engine import Diagnosis, Key
from seismograd.schema import (
    Conclusion,
    Fact,
    Finding,
    Note,
    RowBatch,
    RuleStatus,
    SampleBatch,
)


class LiveRules:
    """The rules as a sink: `publish` takes each finding the moment it is first found, `conclude`
    the final list.

    Without `conclude`, `publish` takes those as well.
    """

    def __init__(
        self,
        publish: Callable[[Finding], None],
        conclude: Callable[[Conclusion], None] | None = None,
        diagnosis: Diagnosis | None = None,
    ) -> None:
        self._publish = publish
        self._conclude = conclude
        self._diagnosis = Diagnosis() if diagnosis is None else diagnosis
        self._published: set[Key] = set()
        # Of a record that goes on: its first step from here on, and what was found before alone.
        self._first_step: int | None = None
        self._only_before: set[Key] = set()

    def observe(self, block: RowBatch) -> None:
        """Judge the next iterations."""
        if self._diagnosis.observe(block) or self._only_before:
            for finding in self._diagnosis.findings():
                key = finding.code, finding.optimizer
                if key not in self._published:
                    self._published.add(key)
                    self._publish(finding)
                elif key in self._only_before and self.is_new(finding):
                    self._only_before.discard(key)
                    self._publish(finding)

    def is_new(self, finding: Finding) -> bool:
        """Return whether a finding is about steps from here on, not only about what a record held
        that goes on.
        """
        return self._first_step is None or finding.last_step >= self._first_step

    def go_on(self, read: Callable[[Diagnosis], None], first_step: int) -> None:
        """Have what a record holds that goes on with this step read to the rules. What is found in
        it is no news, unless the steps from here on show it as well.
        """
        diagnosis = self._diagnosis
        read(diagnosis)
        self._first_step = first_step
        self._only_before.update((each.code, each.optimizer) for each in diagnosis.findings())
        self._published |= self._only_before

    def note(self, note: Note) -> None:
        """Read a note."""
        self._diagnosis.note(note)

    def learn(self, fact: Fact) -> None:
        """Take a fact."""
        self._diagnosis.learn(fact)

    def sampled(self, batch: SampleBatch) -> None:
        """Take what was sampled in a step."""
        self._diagnosis.sampled(batch)

    def close(self) -> None:
        """Judge what is only known at the end."""
        self._diagnosis.close()
        if self._conclude is not None:
            self._conclude(self._diagnosis.conclusion())
        else:
            for finding in self._diagnosis.findings():
                self._publish(finding)

    def abandon(self) -> None:
        """Do nothing: there is nothing to release."""

    def findings(self) -> tuple[Finding, ...]:
        """Return what was found so far."""
        return self._diagnosis.findings()

    def statuses(self) -> tuple[RuleStatus, ...]:
        """Return the outcome of each rule so far."""
        return self._diagnosis.statuses()
