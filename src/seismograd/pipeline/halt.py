"""Stop a training at a finding: before the update where a rule detects it in time, else at the next
intercepted call.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from pathlib import Path

from seismograd.diagnosis.engine import Diagnosis
from seismograd.diagnosis.selected_rules import selected_rules
from seismograd.errors import TrainingHalted
from seismograd.exception_origin import left_out, raised_by_user
from seismograd.i18n import Message, say
from seismograd.schema import Fact, FactKind, Finding, Note, RowBatch, SampleBatch, concatenate
from seismograd.schema.snapshots import FOLDER, SnapshotContent, snapshot_file
from seismograd.settings.rule_selection import RuleSelection


class TrainingHalter:
    """Decides, after the session has handled an event, whether the training continues.

    Args:
        selection: which rules run, and which findings stop the training.
        path: returns the run's directory, where a snapshot of the gradients is saved.
        so_far: returns the current iteration as a row, `None` when it has no step.
        save: writes the current gradients to a file, with the step, the code of the finding and
            the samples of the batch at fault, as far as they are known.
        report: takes the note on why it ended.
    """

    def __init__(
        self,
        selection: RuleSelection,
        path: Callable[[], Path],
        so_far: Callable[[], RowBatch | None],
        save: Callable[[Path, int, str, str], None],
        report: Callable[[Note], None],
    ) -> None:
        self._selection, self._path, self._report = selection, path, report
        self._so_far, self._save = so_far, save
        self._samples = (-1, "")  # the last iteration in which they were known
        early = [
            make
            for make in selected_rules(selection)
            if (rule := make()).early and self._may_halt(rule.code, rule.severity)
        ]
        self._early = Diagnosis(early) if early else None
        self._finding: Finding | None = None
        self._halted: TrainingHalted | None = None
        self._lock = threading.Lock()
        # a pause of the training ends an iteration on a thread other than the training's
        self._looking = threading.Lock()
        self._overhead_s = 0.0

    def take(self, finding: Finding) -> None:
        """Take a finding from a rule; may run on any thread."""
        if self._finding is None and self._selection.stops_on(finding.code, finding.severity):
            self._finding = finding

    def learn(self, fact: Fact) -> None:
        """Take a fact; may run on any thread."""
        if fact.kind == FactKind.BIRTH and fact.text("samples"):
            self._samples = (fact.iteration, fact.text("samples"))
        with self._looking:
            if self._early is not None:
                self._early.learn(fact)

    def sampled(self, batch: SampleBatch) -> None:
        """Take what was sampled in a step; may run on any thread."""
        with self._looking:
            if self._early is not None:
                self._early.sampled(batch)

    def observe(self, batch: RowBatch) -> None:
        """Take finished iterations; may run on any thread."""
        with self._looking:
            if self._early is not None:
                self._early.observe(concatenate([batch]))

    def backward_begins(self) -> None:
        """Handle the start of a backward. Raises `TrainingHalted` where the training should
        stop.
        """
        self._look(before_update=False)

    def step_begins(self) -> None:
        """Handle an optimizer about to step, whose gradients have been read. Raises
        `TrainingHalted` where the training should stop.
        """
        if self._early is not None and self._finding is None:
            began_s = time.perf_counter()
            with left_out():
                self._look_ahead(self._early)
            self._overhead_s += time.perf_counter() - began_s
        self._look(before_update=True)

    def abandon(self) -> None:
        """Stop watching: this is a forked child."""
        self._early = self._finding = None

    def take_overhead(self) -> float:
        """Return the seconds spent looking ahead since the last call."""
        spent_s, self._overhead_s = self._overhead_s, 0.0
        return spent_s

    def _look(self, *, before_update: bool) -> None:
        if self._finding is not None:
            raise self._halt(self._finding, before_update=before_update)

    def _may_halt(self, code: str, severity: str) -> bool:
        return self._selection.stops_on(code, severity)

    def _look_ahead(self, early: Diagnosis) -> None:
        """Return what the rules would find if the iteration ended now."""
        row = self._so_far()
        if row is None:
            return
        with self._looking:
            # these never change, and are many
            ahead = copy.deepcopy(early, {id(each): each for each in row.parameters})
        if ahead.observe(concatenate([row])):
            for finding in ahead.findings():
                self.take(finding)

    def _halt(self, finding: Finding, *, before_update: bool) -> TrainingHalted:
        with self._lock:  # several threads may train
            if self._halted is None:
                step = self._step_now() if before_update else finding.last_step
                known = self._samples[0] in range(finding.first_step, finding.last_step + 1)
                samples = self._samples[1] if known else ""
                snapshot = self._snapshot(step, finding.code, samples) if before_update else None
                self._halted = TrainingHalted(
                    _message(finding, snapshot, step),
                    finding.code,
                    snapshot,
                    tuple(map(int, samples.split())),
                )
                self._report(Note("halted", step, self._halted.message))
            return self._halted

    def _step_now(self) -> int:
        """Return the step that is about to be made, which need not be one of the finding's."""
        row = None
        with left_out():
            row = self._so_far()
        return 0 if row is None else int(row.steps["iteration"][0])

    def _snapshot(self, step: int, code: str, samples: str) -> Path | None:
        """Save the current gradients in one safetensors file and return its path; `None` where that
        was not possible.
        """
        try:
            folder = self._path() / FOLDER
            folder.mkdir(exist_ok=True)
            path = folder / snapshot_file(step, SnapshotContent.GRADIENTS)
            self._save(path, step, code, samples)
        except Exception as error:
            if raised_by_user(error):
                raise
            return None
        return path


def _message(finding: Finding, snapshot: Path | None, step: int) -> Message:
    if snapshot is None:
        since = finding.first_step
        return say(
            "training was stopped: {code} {name} since step {step}",
            code=finding.code,
            name=finding.name,
            step=since,
        )
    return say(
        "training was stopped before the update of step {step}: {code} {name}; its gradients are "
        "saved in {path}",
        code=finding.code,
        name=finding.name,
        step=step,
        path=str(snapshot),
    )
