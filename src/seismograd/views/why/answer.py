"""Put together what a record says of why a training went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from seismograd.analysis.signal_in_time import SignalInTime, signals_in_time
from seismograd.analysis.signal_split import SignalSplit, split_of
from seismograd.diagnosis.verdict import Verdict, judge
from seismograd.record.parameter_selection import find_parameters
from seismograd.record.reader import Run
from seismograd.schema import Fact, FactKind, Finding, SampleBatch, SampleKind
from seismograd.views.step import find_row
from seismograd.views.why.changes_before import Change, changes_before
from seismograd.views.why.depth_points import DepthPoint, points_of_gradients, points_of_sample


@dataclass(frozen=True, slots=True)
class Answer:
    """Why a training went wrong at a `step`: `findings`, the most harmful first; `birth` of the
    first number that was not finite; the depth, of the modules sampled at `sampled` or, where that
    is -1, of the gradients of the step; what changed before.
    """

    verdict: Verdict
    findings: tuple[Finding, ...]
    step: int
    birth: Fact | None
    sampled: int
    split: SignalSplit | None
    in_time: tuple[SignalInTime, ...]
    depth: tuple[DepthPoint, ...]
    changes: tuple[Change, ...]

    @property
    def run(self) -> Run:
        """Return the run."""
        return self.verdict.run


def find_answer(run: Run, step: int | None, patterns: Sequence[str] = ()) -> Answer:
    """Return the answer for a step, by default for the one at which the most harmful finding
    begins, and of findings about the parameters that match.

    Raises:
        SeismogradError: nothing was recorded, or not that step, or no parameter matches.
    """
    last = find_row(run, step)
    names = {run.parameters[at].name for at in find_parameters(run.parameters, patterns)}
    verdict = judge(run)
    findings = tuple(
        each
        for each in verdict.findings
        if (step is None or each.first_step <= step)
        and (not patterns or names.intersection(each.parameters))
    )
    births = [
        each
        for each in run.facts
        if each.kind == FactKind.BIRTH and (step is None or each.iteration <= step)
    ]
    birth = min(births, key=lambda fact: fact.iteration, default=None)
    row = last if step is not None else _row_of(run, findings, last)
    at = int(run.steps["iteration"][row])
    sample = _sample_for(run, findings, at)
    return Answer(
        verdict,
        findings,
        at,
        birth,
        -1 if sample is None else sample.step,
        None if sample is None else split_of(sample),
        () if sample is None else tuple(signals_in_time(sample)),
        _depth(run, row, sample, patterns),
        changes_before(run, row),
    )


def _row_of(run: Run, findings: Sequence[Finding], last: int) -> int:
    """Return the row at which the first finding begins, or that behind it that is recorded."""
    if not findings:
        return last
    behind = run.steps["iteration"] >= findings[0].first_step
    return int(behind.argmax()) if behind.any() else last


def _sample_for(run: Run, findings: Sequence[Finding], step: int) -> SampleBatch | None:
    """Return the sample that a finding speaks of, or the last one up to the step, or the first."""
    series = run.sampled(SampleKind.MODULE_SIGNALS)
    steps = [e.step for each in findings for e in each.evidence if e.statistic == "signal_gain"]
    if steps:
        return series.latest(steps[0])
    found = series.latest(step)
    return found if found is not None or not len(series) else series.latest(int(series.steps[0]))


def _depth(
    run: Run, row: int, sample: SampleBatch | None, patterns: Sequence[str]
) -> tuple[DepthPoint, ...]:
    points = () if sample is None else points_of_sample(sample)
    points = points if len(points) > 1 else points_of_gradients(run, row)
    return tuple(replace(each, is_asked=_matches(each, patterns)) for each in points)


def _matches(point: DepthPoint, patterns: Sequence[str]) -> bool:
    names = point.name, f"{point.name}.weight", f"{point.name}.bias"
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)
