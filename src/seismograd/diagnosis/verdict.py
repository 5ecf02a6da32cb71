"""The verdict on a run: its findings in reading order, and the outcome of every rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from seismograd.diagnosis.causes import in_reading_order
from seismograd.diagnosis.engine import FOUND, NO_REASON, NOT_EVALUATED
from seismograd.diagnosis.rule import Rule
from seismograd.diagnosis.whole_record import diagnose
from seismograd.package_info import VERSION
from seismograd.record.reader import Run
from seismograd.rules import RULES
from seismograd.schema import SEVERITIES, Finding, RuleStatus

NOW, AT_END, RUNNING = "now", "end", "running"

Makers = Sequence[Callable[[], Rule]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The findings of a run, and the outcome of each rule.

    `judged`: by the rules "now"; else, without `statuses`, it is the verdict that the training's
    own rules gave at its "end", or so far ("running").
    """

    run: Run
    findings: tuple[Finding, ...]
    statuses: tuple[RuleStatus, ...]
    judged: str = NOW

    @property
    def has_error(self) -> bool:
        """Return whether any finding is an error."""
        return self.is_as_bad_as("error")

    @property
    def is_blind(self) -> bool:
        """Return whether no rule could look at the run, so that nothing is known of it."""
        return not self.findings and all(each.status == "not evaluated" for each in self.statuses)

    def is_as_bad_as(self, severity: str) -> bool:
        """Return whether any finding is of this severity or a worse one."""
        bad = SEVERITIES[: SEVERITIES.index(severity) + 1]
        return any(finding.severity in bad for finding in self.findings)


def make_verdict(run: Run, findings: Iterable[Finding], statuses: Iterable[RuleStatus]) -> Verdict:
    """Return a verdict on what was found just now."""
    return Verdict(run, in_reading_order(findings), tuple(statuses))


def judge(run: Run, rules: Makers = RULES) -> Verdict:
    """Run the rules over the whole record; of one that keeps raw values of some steps only, return
    what the rules said that ran with the training and saw all of them.
    """
    if run.kept:
        return _verdict_of_training(run, rules)
    diagnosis = diagnose(
        run.blocks(), rules, run.notes, run.facts, run.info.fact_kinds, run.sampled
    )
    return make_verdict(run, diagnosis.findings(), diagnosis.statuses())


def known_verdict(run: Run, rules: Makers = RULES) -> Verdict | None:
    """Return what `judge` would return, from the conclusion of the rules that ran with the
    training; `None` where there is none, or they were other rules.
    """
    conclusion = run.conclusion
    if conclusion is None or run.info.seismograd_version != VERSION:
        return None
    made = (make() for make in rules)
    if conclusion.thresholds != {rule.code: rule.thresholds() for rule in made}:
        return None
    return make_verdict(run, conclusion.findings, conclusion.statuses)


def _verdict_of_training(run: Run, rules: Makers) -> Verdict:
    made = {rule.code: rule for rule in (make() for make in rules)}
    findings = [each for each in run.findings if each.code in made]
    known = {} if run.conclusion is None else {each.code: each for each in run.conclusion.statuses}
    found = {each.code for each in findings}
    statuses = [
        known.get(code)
        or RuleStatus(
            code,
            rule.name,
            FOUND if code in found else NOT_EVALUATED,
            NO_REASON if code in found else run.not_kept or NO_REASON,
        )
        for code, rule in made.items()
    ]
    judged = NOW if run.conclusion is None else AT_END
    return Verdict(run, in_reading_order(findings), tuple(statuses), judged)


def recorded_verdict(run: Run) -> Verdict:
    """Return the verdict of the rules that ran with the training, as far as they came."""
    judged = RUNNING if run.conclusion is None else AT_END
    return Verdict(run, in_reading_order(run.findings), (), judged)
