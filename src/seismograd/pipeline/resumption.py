"""Go on in the record of an earlier training: at which step, and whether that can be.

Until the first backward, whatever is loaded says more of the step: on the training's thread. The
record itself is opened with the first rows, on the thread of the pump.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seismograd.errors import ResumptionRefused, SeismogradError
from seismograd.i18n import Message, say
from seismograd.pipeline.batch import Queued
from seismograd.pipeline.run_sinks import RunSinks
from seismograd.schema import Fact, Finding, Note, RowBatch
from seismograd.settings.record_settings import RecordSettings
from seismograd.settings.resume_request import ResumeRequest

if TYPE_CHECKING:
    from seismograd.record.record_numbers import RecordNumbers

RESUMED = "resumed"  # the kind of its notes


class Resumption:
    """What goes on in an earlier record: as requested, or as what the script loads says.

    Args:
        request: from the command line or `watch`.
        sinks: of a process that records.
        settings: how the record is written.
        number_from: has the session number its steps from here on.
        report: takes notes.
        is_child: another process has started this one, which may train by itself.
        hears_all: whatever the program loads is heard.
    """

    def __init__(
        self,
        request: ResumeRequest | None,
        sinks: RunSinks | None,
        settings: RecordSettings,
        number_from: Callable[[int], None],
        report: Callable[[Note], None],
        is_child: bool = False,
        hears_all: bool = True,
    ) -> None:
        self._hears_all = hears_all
        self._request, self._sinks, self._settings = request, sinks, settings
        self._number_from, self._report, self._is_child = number_from, report, is_child
        self._step = 0
        self._has_state = request is not None and request.step is not None
        self._is_counted = False
        self._num_updates = 0
        self._num_loaded = 0
        self._has_begun = False
        self._is_asked_for = request is not None
        self._numbers: RecordNumbers | None = None
        self._error: SeismogradError | None = None
        if request is not None:
            self._begin(request)

    # On the training's thread ---------------------------------------------------------------------

    def loaded(self, num_updates: int | None) -> None:
        """Take that a module or an optimizer loads a state, which was saved after so many updates,
        `None` where it does not say.
        """
        if self._request is not None and not self._has_begun:
            self._num_loaded += 1
            self._count(self._request, num_updates)

    def found(self, num_updates: int | None) -> None:
        """Take that the optimizer of the first step has made so many updates before."""
        if self._request is not None and num_updates is not None:
            self._num_loaded += 1
            self._count(self._request, num_updates)

    def _count(self, request: ResumeRequest, num_updates: int | None) -> None:
        if num_updates is None or self._has_state or num_updates <= self._num_updates:
            return
        from seismograd.record.checkpoint_step import step_after_updates
        from seismograd.record.reader import open_run

        self._num_updates, self._is_counted = num_updates, True
        if self._error is None:
            self._go_on_from(step_after_updates(open_run(request.path), num_updates))

    def state_loaded(self, state: Mapping[str, object], own: Path | None, next_step: int) -> None:
        """Take the state of the recording that made the checkpoint (`Recording.state_dict`); `own`
        is where this one records, and `next_step` the number of its next step.
        """
        from seismograd.record.checkpoint_step import run_identity
        from seismograd.record.compatibility import is_recorded

        step, identity = state.get("iteration"), state.get("id")
        path = Path(str(state.get("run") or ""))
        if not isinstance(step, int) or step < 0:
            return
        if next_step != self._step:
            message = say("the state of step {step} was loaded; steps are numbered on", step=step)
            self._report(Note(RESUMED, next_step, message))
            return
        if self._request is not None and identity in ("", run_identity(self._request.path)):
            self._has_state = True
            self._go_on_from(step)
        elif self._request is not None:
            message = say(
                "the checkpoint belongs to another record, {run}; it goes on in the one that was "
                "asked for",
                run=str(path),
            )
            self._report(Note(RESUMED, -1, message))
        else:
            self._go_on_from(step)
            if self._sinks is None:  # it is rank 0 that records
                return
            if identity and is_recorded(path) and run_identity(path) == identity and path != own:
                self._request, self._has_state = ResumeRequest(path, step), True
            else:
                message = say(
                    "the record of the checkpoint, {run}, is not there: this one begins with step "
                    "{step}",
                    run=str(path),
                    step=step,
                )
                self._report(Note(RESUMED, -1, message))

    def begins(self) -> None:
        """Note that the training begins, or goes on.

        Raises:
            ResumptionRefused: the record that was asked for cannot go on.
        """
        self._has_begun = True
        if self._error is not None and self._is_asked_for:
            raise ResumptionRefused(self._error)

    # On the pump's thread -------------------------------------------------------------------------

    def adapt(self, item: Queued) -> Queued | None:
        """Return what the session hands on as the record has it; `None` where nothing is
        recorded, because the record that was asked for cannot go on.
        """
        if self._request is None or isinstance(item, Note):
            return item
        if isinstance(item, RowBatch) and self._numbers is None and self._error is None:
            self._open(self._request, item)
        if self._error is not None:
            return None
        if self._numbers is None:
            return item
        if isinstance(item, RowBatch):
            return self._numbers.rows(item)
        return self._numbers.fact(item) if isinstance(item, Fact) else self._numbers.sample(item)

    def _open(self, request: ResumeRequest, first: RowBatch) -> None:
        from seismograd.record.record_numbers import RecordNumbers
        from seismograd.record.resuming import resume_record

        assert self._sinks is not None
        try:
            elements = self._sinks.info.elements
            resumed = resume_record(
                request.path, self._step, first.parameters, self._settings, elements
            )
        except SeismogradError as error:
            self._refuse(error)
        except OSError as error:
            reason = error.strerror or str(error)
            message = say(
                "cannot write a run to {path}: {reason}", path=str(request.path), reason=reason
            )
            self._refuse(SeismogradError(message))
        else:
            self._numbers = RecordNumbers(resumed.before)
            self._sinks.go_on(resumed, self._step)
            for message in self._said(resumed.before.num_rows, resumed.branch):
                self._sinks.writer.note(Note(RESUMED, self._step, message))
            before = self._sinks.stopping(new=False)
            if before:
                self._sinks.writer.note(Note(RESUMED, self._step, _not_stopping(before)))

    def _refuse(self, error: SeismogradError) -> None:
        if self._is_asked_for and not self._is_child:
            self._error = error
        else:  # the training records beside it
            self._request = None
            self._report(Note(RESUMED, -1, error.message))

    # Implementation -------------------------------------------------------------------------------

    def _begin(self, request: ResumeRequest) -> None:
        from seismograd.record.checkpoint_step import step_behind
        from seismograd.record.resuming import resumable

        try:
            run = resumable(request.path)
            step = step_behind(run) if request.step is None else request.step
            self._go_on_from(step)
        except SeismogradError as error:
            self._error = error

    def _go_on_from(self, step: int) -> None:
        self._step = step
        self._number_from(step)

    def _said(self, num_rows: int, branch: Path | None) -> list[Message]:
        said = [
            say("resumed from step {step}", step=self._step)
            if branch is None
            else say(
                "resumed from step {step}; the steps that were recorded from there on before are "
                "in {branch}",
                step=self._step,
                branch=f"{branch.parent.name}/{branch.name}",
            )
        ]
        if not self._num_loaded and self._hears_all and not self._has_state and num_rows:
            said.append(
                say(
                    "no model and no optimizer loaded a saved state before the first step: if the "
                    "training began anew, record it without --resume"
                )
            )
        elif not self._has_state and not self._is_counted:
            said.append(
                say(
                    "what was loaded does not say its step, so the record goes on behind its last "
                    "one; --resume RUN@STEP says it"
                )
            )
        return said


def _not_stopping(findings: Sequence[Finding]) -> Message:
    return say(
        "found before the training was resumed: {codes}; what was found there alone does not stop "
        "it (--halt-on)",
        codes=", ".join(sorted({each.code for each in findings})),
    )
