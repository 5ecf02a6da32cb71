"""The signals of modules in one sampled step: what `show --modules` renders."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from seismograd.analysis.signal_chain import Link, chain_of
from seismograd.analysis.signal_in_time import SignalInTime, signals_in_time
from seismograd.analysis.signal_split import SignalSplit, split_of_chain
from seismograd.errors import SeismogradError
from seismograd.i18n import Message, say
from seismograd.record.reader import Run
from seismograd.record.sample_reader import SampleSeries
from seismograd.schema import SAMPLE_FIELDS, SampleBatch, SampleKind, SampleSubject

FIELDS = SAMPLE_FIELDS[SampleKind.MODULE_SIGNALS].names


@dataclass(frozen=True, slots=True)
class ModuleRow:
    """One call of a module: its numbers by field, `None` where one was not measured, and the factor
    by which it multiplies the signal on its way back, NaN where it is not on the chain.
    """

    subject: SampleSubject
    numbers: dict[str, float | None]
    factor: float

    @property
    def name(self) -> str:
        """Return its name, and the number of the call where it is not the first."""
        call = self.subject.call
        return f"{self.subject.name} ({call + 1})" if call else self.subject.name


@dataclass(frozen=True, slots=True)
class ModuleSignals:
    """A sampled step: its modules in the order of execution, what a layer does to the signal, and
    what the steps of recurrent modules do.
    """

    run: Run
    step: int
    rows: tuple[ModuleRow, ...]
    split: SignalSplit | None
    chain: tuple[Link, ...]
    in_time: tuple[SignalInTime, ...]
    num_samples: int
    last_sample: int


def read_modules(run: Run, step: int | None, patterns: Sequence[str] = ()) -> ModuleSignals:
    """Return the last sample up to and with a step, by default of the run, of the modules that
    match.

    Raises:
        SeismogradError: nothing was sampled up to there, or nothing matches.
    """
    samples = run.sampled(SampleKind.MODULE_SIGNALS)
    batch = samples.latest(step)
    if batch is None:
        raise nothing_sampled(run, int(samples.steps[0]) if len(samples) else None)
    rows = tuple(rows_of(batch))
    shown = tuple(row for row in rows if not patterns or _matches(row.subject, patterns))
    if not shown:
        names = ", ".join(dict.fromkeys(row.subject.name for row in rows[:3]))
        raise SeismogradError(
            say("no module matches {pattern}", pattern=", ".join(map(repr, patterns))),
            say("its modules are {names}, …", names=names),
        )
    return _signals(run, samples, batch, shown)


def read_nearest(run: Run, step: int) -> ModuleSignals | None:
    """Return the sample whose step is nearest to one, the earlier of two; `None`: there is none."""
    samples = run.sampled(SampleKind.MODULE_SIGNALS)
    if not len(samples):
        return None
    batch = samples[int(np.abs(samples.steps - step).argmin())]
    return _signals(run, samples, batch, tuple(rows_of(batch)))


def _signals(
    run: Run, samples: SampleSeries, batch: SampleBatch, rows: tuple[ModuleRow, ...]
) -> ModuleSignals:
    chain = chain_of(batch)
    return ModuleSignals(
        run,
        batch.step,
        rows,
        split_of_chain(chain, batch.step),
        chain,
        tuple(signals_in_time(batch)),
        len(samples),
        int(samples.steps[-1]),
    )


def nothing_sampled(run: Run, first: int | None) -> SeismogradError:
    """Return the error that no signals were sampled, or none so early."""
    if first is not None:
        return SeismogradError(
            say("the signals of the modules were not sampled up to this step"),
            say("the first sample is of step {step}", step=first),
        )
    why: Message | None = next((each.message for each in run.notes if each.kind == "xray"), None)
    return SeismogradError(
        why or say("no signals of modules were sampled in {run}", run=str(run.path)),
        say("they are sampled from the second step on, unless the level is light"),
    )


def rows_of(batch: SampleBatch) -> Iterator[ModuleRow]:
    """Yield the calls of a sample, without the single steps of recurrent modules."""
    factors = {link.position: link.factor for link in chain_of(batch)}
    columns = {name: batch.column(name) for name in FIELDS}
    measured = {name: batch.was_measured(name) for name in FIELDS}
    for position, subject in enumerate(batch.subjects):
        if subject.time < 0:
            numbers = {
                name: float(columns[name][position]) if measured[name][position] else None
                for name in FIELDS
            }
            yield ModuleRow(subject, numbers, factors.get(position, math.nan))


def _matches(subject: SampleSubject, patterns: Sequence[str]) -> bool:
    """Return whether a module matches, or one of its parameters may."""
    return any(
        fnmatchcase(subject.name, pattern)
        or fnmatchcase(f"{subject.name}.weight", pattern)
        or fnmatchcase(f"{subject.name}.bias", pattern)
        for pattern in patterns
    )
