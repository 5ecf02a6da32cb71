"""The rules while a training runs: findings are published the moment they are found."""

from __future__ import annotations

from collections.abc import Callable

from seismograd.diagnosis.engine import Diagnosis, Key
from seismograd.diagnosis.whole_record import read_record
from seismograd.record.reader import Run
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

    def observe(self, block: RowBatch) -> None:
        """Judge the next iterations."""
        if self._diagnosis.observe(block):
            for finding in self._diagnosis.findings():
                if (finding.code, finding.optimizer) not in self._published:
                    self._published.add((finding.code, finding.optimizer))
                    self._publish(finding)

    def go_on(self, run: Run) -> None:
        """Read what a record holds that goes on with the next iterations. What is found in it is
        no news.
        """
        diagnosis = self._diagnosis
        read_record(diagnosis, run.blocks(), run.notes, run.facts, run.sampled)
        if run.kept or run.damage is not None:
            diagnosis.remember(run.findings)
        self._published.update((each.code, each.optimizer) for each in diagnosis.findings())

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
