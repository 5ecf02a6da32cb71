"""The consumers of a run's measurements: its rules, its record, and other sinks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from seismograd.diagnosis.engine import Diagnosis
from seismograd.diagnosis.live_rules import LiveRules
from seismograd.diagnosis.selected_rules import selected_rules
from seismograd.record.lazy_writer import LazyWriter
from seismograd.record.writer import Writer
from seismograd.schema import Conclusion, Finding, RunInfo, Sink
from seismograd.settings.record_settings import RecordSettings
from seismograd.settings.rule_selection import RuleSelection
from seismograd.settings.tracker_options import TrackerOption

if TYPE_CHECKING:
    from seismograd.record.reader import Run
    from seismograd.record.resuming import Resumed
    from seismograd.sinks.tracker_sink import TrackerSink


class RunSinks:
    """The rules and the record of a run, in this order: a finding is written before the iteration
    that it was found in.

    Args:
        path: the directory of the run.
        info: what is known of the run before its first step.
        selection: which rules run.
        leave: at the end without an iteration, leave the directory to another process.
        extra_sinks: get the same as the rules and the record, after them.
        settings: how the run is written.
        trackers: where its numbers are sent besides.
        on_tracked: called on the thread of a tracker that has begun.
    """

    def __init__(
        self,
        path: Path,
        info: RunInfo,
        selection: RuleSelection,
        leave: bool = False,
        extra_sinks: Sequence[Sink] = (),
        settings: RecordSettings | None = None,
        trackers: Sequence[TrackerOption] = (),
        on_tracked: Callable[[], None] = lambda: None,
    ) -> None:
        self.info, self._selection = info, selection
        make = partial(_make_writer, info, settings or RecordSettings())
        self.writer = LazyWriter(path, make, leave=leave)
        self._finding_listeners: list[Callable[[Finding], None]] = []
        self.rules = LiveRules(self._publish, self._conclude, Diagnosis(selected_rules(selection)))
        self.trackers: TrackerSink | None = None
        if trackers:
            from seismograd.sinks.tracker import RunStart
            from seismograd.sinks.tracker_sink import TrackerSink

            start = RunStart(
                info.script, info.created_utc, info.torch_version, lambda: self.writer.path
            )
            self.trackers = TrackerSink(trackers, start, self.writer.note, on_tracked)
        tracking = () if self.trackers is None else (self.trackers,)
        self.sinks: tuple[Sink, ...] = (self.rules, self.writer, *tracking, *extra_sinks)

    def go_on(self, resumed: Resumed, first_step: int) -> None:
        """Go on in a record that is there, with this step and its findings, which are published
        once more only when steps from here on show them.
        """
        self.writer.go_on(resumed.writer)
        self.rules.go_on(partial(_read_to, resumed.before), first_step)
        resumed.writer.replace_findings(self.rules.findings())

    def stopping(self, *, new: bool) -> tuple[Finding, ...]:
        """Return the findings at which the training is to stop (`--halt-on`): the `new` ones, or
        those of steps before it went on in this record.
        """
        return tuple(
            each
            for each in self.rules.findings()
            if self._selection.stops_on(each.code, each.severity) and self.rules.is_new(each) is new
        )

    def on_finding(self, take: Callable[[Finding], None]) -> None:
        """Call this with each new finding from here on, once it is written, on the thread of the
        rules.
        """
        self._finding_listeners.append(take)

    def _publish(self, finding: Finding) -> None:
        self.writer.finding(finding)
        if self.trackers is not None:
            self.trackers.finding(finding)
        for take in self._finding_listeners:
            take(finding)

    def _conclude(self, conclusion: Conclusion) -> None:
        self.writer.conclude(conclusion)
        if self.trackers is not None:
            for finding in conclusion.findings:
                self.trackers.finding(finding)
            # Before the record ends: what they did not get is written there.
            self.trackers.close()


def _read_to(run: Run, diagnosis: Diagnosis) -> None:
    """Read what a record holds to its rules."""
    from seismograd.diagnosis.whole_record import read_record

    read_record(diagnosis, run.blocks(), run.notes, run.facts, run.sampled)
    if run.kept or run.damage is not None:
        diagnosis.remember(run.findings)


def _make_writer(info: RunInfo, settings: RecordSettings, path: Path) -> Writer:
    return Writer(path, info, settings)
