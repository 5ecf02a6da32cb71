"""The sink that sends a run to trackers: it reads blocks on the pump's thread, and each tracker has
a thread of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

from seismograd.i18n import say
from seismograd.schema import Fact, Finding, Note, RowBatch, SampleBatch
from seismograd.settings.tracker_options import KNOWN_TRACKERS, TrackerOption, added_tracker
from seismograd.sinks.tracked_steps import TrackedSteps
from seismograd.sinks.tracker import Alert, RunStart, Tracker
from seismograd.sinks.tracker_queue import TrackerQueue

KIND = "tracker"  # of the notes that say what was not sent


class TrackerSink:
    """Sends the scalars of each step and each finding; says once what a tracker did not take.

    Args:
        trackers: where to.
        run: what they are told of it.
        report: takes notes, on the pump's thread.
        on_begun: called on a tracker's thread once it has begun.
    """

    def __init__(
        self,
        trackers: Sequence[TrackerOption],
        run: RunStart,
        report: Callable[[Note], None],
        on_begun: Callable[[], None] = lambda: None,
    ) -> None:
        self._deliveries = [
            TrackerQueue(each.name, lambda each=each: make_tracker(each), run, on_begun)
            for each in trackers
        ]
        self._report = report
        self._scalars = TrackedSteps()
        self._found: set[tuple[str, int]] = set()
        self._reported: set[str] = set()
        self._last_step = -1
        self._closed = False

    def observe(self, batch: RowBatch) -> None:
        """Send the next steps."""
        for measurement in self._scalars.read(batch):
            self._last_step = measurement.step
            for delivery in self._deliveries:
                delivery.put(measurement)
        self._say_problems()

    def finding(self, finding: Finding) -> None:
        """Send a finding, unless it was sent before."""
        key = finding.code, finding.optimizer
        if key in self._found:
            return
        self._found.add(key)
        # In the language of the process, as a log is.
        parts = (", ".join(finding.parameters[:5]), finding.cause.render(), finding.where)
        alert = Alert(
            finding.first_step,
            finding.code,
            finding.name,
            finding.severity,
            "\n".join((*filter(None, parts), finding.advice.render())),
        )
        for delivery in self._deliveries:
            delivery.put(alert)

    def exit_begins(self) -> None:
        """Wait, for a bounded time, until the trackers have got what waits."""
        for delivery in self._deliveries:
            delivery.exit_begins()

    def close(self) -> None:
        """Send what waits, and end. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        for delivery in self._deliveries:
            delivery.close()
        self._say_problems()
        for delivery in self._deliveries:
            if delivery.num_lost:
                self._report(
                    Note(
                        KIND,
                        self._last_step,
                        say(
                            "{name} did not get everything; not sent: {count}",
                            name=delivery.name,
                            count=delivery.num_lost,
                        ),
                        delivery.num_lost,
                    )
                )

    def note(self, note: Note) -> None:
        """Leave it: notes are of the record."""

    def learn(self, fact: Fact) -> None:
        """Leave it: facts are of the rules."""

    def sampled(self, batch: SampleBatch) -> None:
        """Leave it."""

    def abandon(self) -> None:
        """Do nothing: the threads are daemons, and the trackers close by themselves."""

    def _say_problems(self) -> None:
        for delivery in self._deliveries:
            error = delivery.error
            if error is not None and delivery.name not in self._reported:
                self._reported.add(delivery.name)
                self._report(
                    Note(
                        KIND,
                        self._last_step,
                        say(
                            "{name} failed: {error}",
                            name=delivery.name,
                            error=f"{type(error).__name__}: {str(error)[:200]}",
                        ),
                    )
                )


def make_tracker(option: TrackerOption) -> Tracker:
    """Return the tracker; only now is its library imported."""
    known = KNOWN_TRACKERS.get(option.name)
    if known is not None:
        module = import_module(f"seismograd.sinks.adapters.{known.module}")
        return getattr(module, known.kind)(option.target)
    added = added_tracker(option.name)
    if added is None:
        raise LookupError(option.name)
    return added.load()(option.target)
