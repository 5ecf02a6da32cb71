"""The interface of a rule: it reads blocks of the record in order and returns findings."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import ClassVar, TypeVar

from seismograd.analysis.finding_tracker import FindingTracker
from seismograd.analysis.shared_block import SharedBlock, SharedReaders
from seismograd.i18n import Message, Value
from seismograd.schema import Evidence, Fact, FactKind, Finding, Note, SampleBatch, SampleKind

Remembered = TypeVar("Remembered")

Explanation = tuple[Message, Message, str]
"""The cause of a finding, the advice, and a line of code that follows the advice."""


def memory(make: Callable[[], Remembered]) -> Remembered:
    """Return a field of a rule that is no threshold: what it remembers between blocks."""
    return field(default_factory=make, init=False, repr=False)


def per_optimizer(make: Callable[[], Remembered]) -> dict[int, Remembered]:
    """Return the same with an entry for each optimizer, made when it is first asked for."""
    return field(default_factory=lambda: defaultdict(make), init=False, repr=False)


def too_few(template: str, has: float, needed: float) -> Message | None:
    """Return the message of `shortfall` that fewer of something were seen than are needed, `None`
    where there were enough. The template says what of: "needs {needed} steps, has {has}".
    """
    values: dict[str, Value | Message] = {"needed": needed, "has": has}
    return Message(template, values) if has < needed else None


def known(*evidence: Evidence) -> tuple[Evidence, ...]:
    """Return the evidence without numbers that were not measured, such as a loss of NaN."""
    return tuple(each for each in evidence if not math.isnan(each.value))


@dataclass
class Rule(ABC):
    """A rule is one final class in one file; its docstring is its documentation
    (`seismograd.diagnosis.documentation`).

    The fields that can be given are its thresholds; what it remembers between blocks are fields
    with `init=False`. Its findings must not depend on where the blocks are cut, so it remembers
    what spans a cut, by the name of the parameter where columns may move.

    A finding is identified by its code and its optimizer: yielding one again with the same two
    replaces it, which is how it grows. Its first step stays, its last step moves on; `found` keeps
    count of that. docs/writing_rules.md shows a whole rule and says what there is to read.
    """

    code: ClassVar[str]
    name: ClassVar[str]
    severity: ClassVar[str]  # of what it usually finds
    needs: ClassVar[tuple[str, ...]] = ()  # names of the statistics that it requires
    needs_facts: ClassVar[tuple[FactKind, ...]] = ()  # kinds that it requires
    # kinds of samples that it reads; it is judged as well where they are missing
    reads_samples: ClassVar[tuple[SampleKind, ...]] = ()
    # it can judge an iteration before its step is made
    early: ClassVar[bool] = False
    # codes of findings that it explains when they begin at the same step or later
    absorbs: ClassVar[tuple[str, ...]] = ()
    # codes that it explains only where the finding has the severity above
    absorbs_as_usual: ClassVar[tuple[str, ...]] = ()
    # codes that it explains only where the finding is an error
    absorbs_as_error: ClassVar[tuple[str, ...]] = ()

    found: FindingTracker = field(default_factory=FindingTracker, init=False, repr=False)

    def read_with(self, readers: SharedReaders) -> None:  # noqa: B027  most read alone
        """Before the first block: use these readers, shared with other rules, instead of its
        own.
        """

    @abstractmethod
    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        """Read the next iterations; return what is new or has grown."""

    def read_note(self, note: Note) -> Iterable[Finding]:  # noqa: ARG002  what it is given, not what it does with it
        """Read a note; only those of kind "tail" are in every record and may lead to a finding."""
        return ()

    def learn(self, fact: Fact) -> Iterable[Finding]:  # noqa: ARG002  as above
        """Take a fact. It comes before the block with its iteration, however many iterations that
        has: go by `fact.iteration` when combining it with numbers of the block.
        """
        return ()

    def sampled(self, batch: SampleBatch) -> Iterable[Finding]:  # noqa: ARG002  as above
        """Take what was sampled in a step, of a kind that it reads. It comes before the block with
        its step, as facts do.
        """
        return ()

    def finish(self) -> Iterable[Finding]:
        """Finish the record; return what is only known now."""
        return ()

    @abstractmethod
    def shortfall(self) -> Message | None:
        """Return what was missing to judge at all; `None` when nothing was."""

    def finding(
        self,
        cause: Message,
        advice: Message,
        excerpt: str = "",
        *,
        first_step: int,
        last_step: int | None = None,
        evidence: tuple[Evidence, ...],
        optimizer: int = -1,
        severity: str | None = None,
        parameters: tuple[str, ...] = (),
        where: str = "",
        seen_only: bool = False,
    ) -> Finding:
        """Return a finding of this rule.

        Without `last_step` it is about one iteration, without `severity` it has the rule's usual
        one, and without `optimizer` it is about all of them. `seen_only`: `where` is no line to
        change, but one at which the fault shows.
        """
        return Finding(
            code=self.code,
            name=self.name,
            severity=self.severity if severity is None else severity,
            optimizer=optimizer,
            first_step=first_step,
            last_step=first_step if last_step is None else last_step,
            parameters=parameters,
            evidence=evidence,
            cause=cause,
            advice=advice,
            where=where,
            excerpt=excerpt,
            seen_only=seen_only and bool(where),
        )

    def finding_of_fact(
        self,
        fact: Fact,
        cause: Message,
        advice: Message,
        excerpt: str = "",
        *,
        evidence: tuple[Evidence, ...],
        first_step: int | None = None,
        last_step: int | None = None,
    ) -> Finding:
        """Return a finding about what a fact is about, at the statement that the fact names, else
        at its own line; without `first_step` it begins, and without `last_step` it ends with the
        fact.
        """
        return self.finding(
            cause,
            advice,
            excerpt,
            first_step=fact.iteration if first_step is None else first_step,
            last_step=fact.iteration if last_step is None else last_step,
            evidence=evidence,
            optimizer=fact.optimizer,
            parameters=fact.parameters,
            where=fact.text("place") or fact.where,
        )

    def thresholds(self) -> dict[str, float]:
        """Return the values of its thresholds by name."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.init}
