"""Run the rules: over a record, or live as one more sink of a session. The code is the same."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Sequence

from seismograd.analysis.held_columns import HeldColumns
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
    RowBatch,
    RuleStatus,
    SampleBatch,
    SampleKind,
)

FOUND, CLEAR, NOT_EVALUATED = mark("found"), mark("clear"), mark("not evaluated")
NO_REASON = Message("")

_SAMPLE_KINDS = tuple(SampleKind)
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
        # Now, since readers remember what they have read: a rule cannot change over to one later.
        share_readers(self._rules)
        self._absorbs = absorbs_of(self._rules)
        self._found: dict[Key, Finding] = {}
        self._failures: dict[str, Message] = {}
        # of iterations to come, in their order; facts before samples
        self._waiting: list[Fact | SampleBatch] = []
        self._sample_kinds = kinds_read(self._rules)
        self._fact_kinds = frozenset(fact_kinds)
        self._held = HeldColumns()  # of the parameters of the last block
        self._seen: set[str] = set()  # names of the available statistics
        self._statistics: frozenset[str] | None = None  # those of the last block
        self._able: tuple[Rule, ...] = ()  # the rules that can read them

    def observe(self, block: RowBatch) -> frozenset[Key]:
        """Read the next iterations; return what was found in them for the first time."""
        if not len(block):
            return frozenset()
        known = frozenset(self._found)
        if block.parameters is not self._held.parameters:
            self._held = HeldColumns(block.parameters)
        self._seen.update(block.values, block.samples if len(block.sample_rows) else ())
        # Before the block: a rule that reads an iteration must know the facts of that iteration.
        last = int(block.steps["iteration"][-1])
        self._hand_on_waiting(bisect_right(self._waiting, (last, len(_SAMPLE_KINDS)), key=_place))
        # Several rules need the same windows and profiles, which are computed once for all of them.
        shared = SharedBlock.of(block, self._held)
        for rule in self._readers_of(block):
            self._take(rule, lambda rule=rule: rule.observe(shared))
        # New keys alone: a finding grows with nearly every block, which is no news to anybody.
        return frozenset(self._found) - known if len(self._found) > len(known) else frozenset()

    def _readers_of(self, block: RowBatch) -> tuple[Rule, ...]:
        """Return the rules that can read a block with these statistics."""
        statistics = frozenset(block.values)
        if statistics != self._statistics:
            self._statistics = statistics
            # Most blocks have no sample, but a rule that needs one must see the rest of them, too.
            there = statistics | _SAMPLED
            self._able = tuple(rule for rule in self._rules if there.issuperset(rule.needs))
        return self._able

    def note(self, note: Note) -> None:
        """Read a note."""
        for rule in self._rules:
            self._take(rule, lambda rule=rule: rule.read_note(note))

    def learn(self, fact: Fact) -> None:
        """Take a fact. It is passed on right before the block with its iteration, whether it comes
        then or with all others at the start.
        """
        insort(self._waiting, fact, key=_place)

    def sampled(self, batch: SampleBatch) -> None:
        """Take what was sampled in a step; passed on likewise, to the rules that read its kind."""
        if batch.kind in self._sample_kinds:
            insort(self._waiting, batch, key=_place)

    @property
    def sample_kinds(self) -> frozenset[SampleKind]:
        """Return the kinds of samples that its rules read."""
        return self._sample_kinds

    def close(self) -> None:
        """End the record."""
        self._hand_on_waiting(len(self._waiting))
        for rule in self._rules:
            self._take(rule, rule.finish)

    def remember(self, findings: Iterable[Finding]) -> None:
        """Take what was found in rows that are not there any more, as far as it was not found in
        others.
        """
        for finding in findings:
            self._found.setdefault((finding.code, finding.optimizer), finding)

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

    def _hand_on_waiting(self, num: int) -> None:
        """Pass on the first facts and samples of those that wait."""
        if not num:
            return
        passed, self._waiting = self._waiting[:num], self._waiting[num:]
        for rule in self._rules:
            for each in passed:
                if isinstance(each, Fact):
                    self._take(rule, lambda rule=rule, fact=each: rule.learn(fact))
                elif each.kind in rule.reads_samples:
                    self._take(rule, lambda rule=rule, batch=each: rule.sampled(batch))

    def _take(self, rule: Rule, look: Callable[[], Iterable[Finding]]) -> None:
        if rule.code in self._failures:
            return
        try:
            for finding in look():
                # The same key again replaces the finding, which is how it grows.
                self._found[finding.code, finding.optimizer] = with_model_name(
                    finding, self._held.parameters
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
        # Before the failure: what a rule found until it failed is as true as before.
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
        # Of a run without a row the rule itself says better what it lacks.
        if not missing or not self._seen:
            return None
        if all(name in _SAMPLED for name in missing):
            return say("needs sampled statistics: {names}", names=", ".join(missing))
        return say("needs statistics that were not recorded: {names}", names=", ".join(missing))


def _place(waiting: Fact | SampleBatch) -> tuple[int, int]:
    if isinstance(waiting, Fact):
        return waiting.iteration, 0
    return waiting.step, 1 + _SAMPLE_KINDS.index(waiting.kind)


def kinds_read(rules: Iterable[Rule]) -> frozenset[SampleKind]:
    """Return the kinds of samples that any of these rules reads."""
    return frozenset(kind for rule in rules for kind in rule.reads_samples)


def absorbs_of(rules: Iterable[Rule | type[Rule]]) -> Absorbs:
    """Return what the findings of these rules explain."""
    return {
        (rule.code, severity): rule.absorbs
        + (rule.absorbs_as_usual if severity == rule.severity else ())
        + (rule.absorbs_as_error if severity == "error" else ())
        for rule in rules
        for severity in SEVERITIES
    }
