"""Run the rules: over a record, or live as one more sink of a session. The code is the same."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Sequence

from seismograd.analysis.script_names import with_model_name
from seismograd.analysis.shared_block import SharedBlock, share_readers
from seismograd.diagnosis.causes import Absorbs, by_cause
from seismograd.diagnosis.rule import Rule
from seismograd.exception_origin import raised_by_user
from seismograd.i18n import Message, mark, say
from seismograd.rules import RULES
from seismograd.schema import (
    SEVERITIES,
    STATISTICS,
    Conclusion,
    Fact,
    FactKind,
    Finding,
    Note,
    Parameter,
    RowBatch,
    RuleStatus,
)

FOUND, CLEAR, NOT_EVALUATED = mark("found"), mark("clear"), mark("not evaluated")
NO_REASON = Message("")

_SAMPLED = frozenset(each.name for each in STATISTICS if each.sampled)

Key = tuple[str, int]  # code, optimizer


class Diagnosis:
    """The rules and their findings so far.

    A rule that fails is disabled and reported; the others go on, because one broken rule must cost
    only its own answer. Every rule reads the same blocks in the same order, live and from disk, so
    that both give the same findings.

    `fact_kinds` are those that were looked for.
    """

    def __init__(
        self,
        rules: Sequence[Callable[[], Rule]] = RULES,
        fact_kinds: Iterable[str] = tuple(FactKind),
    ) -> None:
        self._rules = tuple(make() for make in rules)
        share_readers(self._rules)
        self._absorbs = absorbs_of(self._rules)
        self._found: dict[Key, Finding] = {}
        self._failures: dict[str, Message] = {}
        self._facts: list[Fact] = []  # of iterations to come, in their order
        self._fact_kinds = frozenset(fact_kinds)
        self._parameters: tuple[Parameter, ...] = ()  # of the last block
        self._seen: set[str] = set()  # names of the available statistics

    def observe(self, block: RowBatch) -> frozenset[Key]:
        """Read the next iterations; return what was found in them for the first time."""
        if not len(block):
            return frozenset()
        known = frozenset(self._found)
        self._parameters = block.parameters
        self._seen.update(block.values, block.samples if len(block.sample_rows) else ())
        # Before the block: a rule that reads an iteration must know the facts of that iteration.
        self._hand_on_facts(
            bisect_right(self._facts, int(block.steps["iteration"][-1]), key=_iteration)
        )
        # Several rules need the same windows and profiles, which are computed once for all of them.
        shared = SharedBlock.of(block)
        for rule in self._rules:
            # Most blocks have no sample, but a rule that needs one must see the rest of them, too.
            if all(name in block.values or name in _SAMPLED for name in rule.needs):
                self._take(rule, lambda rule=rule: rule.observe(shared))
        return frozenset(self._found) - known if len(self._found) > len(known) else frozenset()

    def note(self, note: Note) -> None:
        """Read a note."""
        for rule in self._rules:
            self._take(rule, lambda rule=rule: rule.hear(note))

    def learn(self, fact: Fact) -> None:
        """Take a fact. It is passed on right before the block with its iteration, whether it comes
        then or with all others at the start.
        """
        insort(self._facts, fact, key=_iteration)

    def close(self) -> None:
        """End the record."""
        self._hand_on_facts(len(self._facts))
        for rule in self._rules:
            self._take(rule, rule.finish)

    def findings(self) -> tuple[Finding, ...]:
        """Return what was found so far, one for each cause, the most severe and earliest first."""
        return by_cause(tuple(self._found.values()), self._absorbs)

    def statuses(self) -> tuple[RuleStatus, ...]:
        """Return the outcome of each rule. A finding that a cause absorbed still counts as
        found.
        """
        return tuple(self._status(rule) for rule in self._rules)

    def conclusion(self) -> Conclusion:
        """Return the outcome of all rules, and their thresholds."""
        thresholds = {rule.code: rule.thresholds() for rule in self._rules}
        return Conclusion(self.findings(), self.statuses(), thresholds)

    def _hand_on_facts(self, num: int) -> None:
        """Pass on the first of those that wait."""
        if not num:
            return
        facts, self._facts = self._facts[:num], self._facts[num:]
        for rule in self._rules:
            for fact in facts:
                self._take(rule, lambda rule=rule, fact=fact: rule.learn(fact))

    def _take(self, rule: Rule, look: Callable[[], Iterable[Finding]]) -> None:
        if rule.code in self._failures:
            return
        try:
            for finding in look():
                # The same key again replaces the finding, which is how it grows.
                self._found[finding.code, finding.optimizer] = with_model_name(
                    finding, self._parameters
                )
        # One broken rule costs its own answer and nobody else's.
        except Exception as error:
            if raised_by_user(error):  # the halter looks ahead on the training's thread
                raise
            self._failures[rule.code] = say(
                "failed: {error}", error=f"{type(error).__name__}: {error}"
            )

    def _status(self, rule: Rule) -> RuleStatus:
        failure = self._failures.get(rule.code)
        if any(code == rule.code for code, _ in tuple(self._found)):
            return RuleStatus(rule.code, rule.name, FOUND, failure or NO_REASON)
        reason = failure or self._missing(rule) or rule.shortfall()
        return RuleStatus(
            rule.code, rule.name, CLEAR if reason is None else NOT_EVALUATED, reason or NO_REASON
        )

    def _missing(self, rule: Rule) -> Message | None:
        missing = [name for name in rule.needs if name not in self._seen]
        kinds = [str(kind) for kind in rule.needs_facts if kind not in self._fact_kinds]
        if kinds:
            return say("needs facts that were not recorded: {names}", names=", ".join(kinds))
        if not missing or not self._seen:
            return None
        if all(name in _SAMPLED for name in missing):
            return say("needs sampled statistics: {names}", names=", ".join(missing))
        return say("needs statistics that were not recorded: {names}", names=", ".join(missing))


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

    def note(self, note: Note) -> None:
        """Read a note."""
        self._diagnosis.note(note)

    def learn(self, fact: Fact) -> None:
        """Take a fact."""
        self._diagnosis.learn(fact)

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


def diagnose(
    blocks: Iterable[RowBatch],
    rules: Sequence[Callable[[], Rule]] = RULES,
    notes: Iterable[Note] = (),
    facts: Iterable[Fact] = (),
    fact_kinds: Iterable[str] = tuple(FactKind),
) -> Diagnosis:
    """Judge a whole record."""
    diagnosis = Diagnosis(rules, fact_kinds)
    for fact in facts:
        diagnosis.learn(fact)
    for block in blocks:
        diagnosis.observe(block)
    for note in notes:
        diagnosis.note(note)
    diagnosis.close()
    return diagnosis


def _iteration(fact: Fact) -> int:
    return fact.iteration


def absorbs_of(rules: Iterable[Rule | type[Rule]]) -> Absorbs:
    """Return what the findings of these rules explain."""
    return {
        (rule.code, severity): rule.absorbs
        + (rule.absorbs_as_usual if severity == rule.severity else ())
        for rule in rules
        for severity in SEVERITIES
    }
