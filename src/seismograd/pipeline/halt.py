"""Stops a training at a finding: before the update where a rule knows it in time, else at the
next call that is heard.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from seismograd.diagnosis.engine import Diagnosis
from seismograd.diagnosis.selected_rules import selected_rules
from seismograd.errors import TrainingHalted
from seismograd.exception_origin import left_out, raised_by_user
from seismograd.i18n import Message, say
from seismograd.schema import Finding, Note, RowBatch, concatenate
from seismograd.settings.rule_selection import RuleSelection

if TYPE_CHECKING:
    import torch

SNAPSHOTS = "snapshots"


class TrainingHalter:
    """Listens behind a session.

    Args:
        choice: which rules look, and which findings stop the training.
        path: the run's directory; a snapshot of the gradients is left in it.
        so_far: the iteration in the making as a row, `None` when it has no step.
        gradients: the gradients as they are now, by name.
        tell: takes the note that says why it ended.
    """

    def __init__(
        self,
        selection: RuleSelection,
        path: Path,
        so_far: Callable[[], RowBatch | None],
        gradients: Callable[[], Mapping[str, torch.Tensor]],
        tell: Callable[[Note], None],
    ) -> None:
        self._selection, self._path, self._tell = selection, path, tell
        self._so_far, self._gradients = so_far, gradients
        early = [
            make
            for make in selected_rules(selection)
            if (rule := make()).early and self._may_halt(rule.code, rule.severity)
        ]
        self._early = Diagnosis(early) if early else None
        self._finding: Finding | None = None
        self._halted: TrainingHalted | None = None
        self._lock = threading.Lock()
        # a pause of the training ends an iteration on another thread than that of the training
        self._looking = threading.Lock()
        self._overhead_s = 0.0

    def take(self, finding: Finding) -> None:
        """A rule has found something; on any thread."""
        if self._finding is None and self._selection.stops_on(finding.code, finding.severity):
            self._finding = finding

    def observe(self, batch: RowBatch) -> None:
        """Let the rules see iterations that are over; on any thread."""
        with self._looking:
            if self._early is not None:
                self._early.observe(concatenate([batch]))

    def wants(self, part: str) -> bool:
        """Whether it listens to this call at all."""
        return part in ("backward_begins", "step_begins")

    def hear(self, part: str, *_: object) -> None:
        """A call that a patch has heard, after the session has dealt with it. Raises
        `TrainingHalted` where the training is to end.
        """
        if part == "step_begins" and self._early is not None and self._finding is None:
            began_s = time.perf_counter()
            with left_out():
                self._look_ahead(self._early)
            self._overhead_s += time.perf_counter() - began_s
        if self._finding is not None:
            raise self._halt(self._finding, before_update=part == "step_begins")

    def failed(self, part: str, error: BaseException) -> None:
        """A failure of ours stops nothing."""

    def broken_off(self, part: str, *_: object) -> None:
        """Nothing is kept between calls."""

    def abandon(self) -> None:
        """In a forked child: it is not watched."""
        self._early = self._finding = None

    def take_overhead(self) -> float:
        """Seconds spent looking ahead since the last call."""
        spent_s, self._overhead_s = self._overhead_s, 0.0
        return spent_s

    def _may_halt(self, code: str, severity: str) -> bool:
        return self._selection.stops_on(code, severity)

    def _look_ahead(self, early: Diagnosis) -> None:
        """What the rules would say if the iteration were over now."""
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
                snapshot = self._snapshot(step) if before_update else None
                self._halted = TrainingHalted(
                    _message(finding, snapshot, step), finding.code, snapshot
                )
                self._tell(Note("halted", step, self._halted.message))
            return self._halted

    def _step_now(self) -> int:
        """The step that is about to be made, which need not be one of the finding."""
        row = None
        with left_out():
            row = self._so_far()
        return 0 if row is None else int(row.steps["iteration"][0])

    def _snapshot(self, step: int) -> Path | None:
        """The gradients of this moment in one safetensors file; `None` where that was not
        possible.
        """
        try:
            from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]

            folder = self._path / SNAPSHOTS
            folder.mkdir(exist_ok=True)
            path = folder / f"step-{step:08d}.safetensors"
            gradients = self._gradients()
            save_file({name: dense_copy(gradient) for name, gradient in gradients.items()}, path)
        except Exception as error:
            if raised_by_user(error):
                raise
            return None
        return path


def dense_copy(gradient: torch.Tensor) -> torch.Tensor:
    """A dense copy in memory of its own, as a file takes it."""
    return gradient.detach().to_dense().cpu().contiguous().clone()


def _message(finding: Finding, snapshot: Path | None, step: int) -> Message:
    if snapshot is None:
        since = finding.first_step
        return say(
            "the training was stopped: {code} {name} since step {step}",
            code=finding.code,
            name=finding.name,
            step=since,
        )
    return say(
        "the training was stopped before the update of step {step}: {code} {name}; its gradients "
        "are in {path}",
        code=finding.code,
        name=finding.name,
        step=step,
        path=str(snapshot),
    )
