"""Decide at each step whether a snapshot is due, and copy what it holds."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seismograd.capture.events import EventName, Listener
from seismograd.capture.loop.error_guard import ErrorGuard
from seismograd.capture.running_step import RunningStep
from seismograd.capture.snapshots.batch_tensors import batch_tensors
from seismograd.capture.snapshots.snapshot_files import Moment, SnapshotFiles, StoredFile
from seismograd.schema.snapshots import SnapshotContent, SnapshotReason, snapshot_file
from seismograd.settings.snapshot_plan import SnapshotPlan
from seismograd.tensors.cuda_graph import is_capturing
from seismograd.tensors.stored_copies import copies_of, is_stored_here, num_bytes, placements_of

MAX_NONFINITE = 3  # steps
SEEN_AT_ONCE = frozenset({"SG201", "SG202"})  # by the gradients themselves, at their step


class SnapshotListener(Listener):
    """Attached behind the session, and before what may change the gradients.

    Args:
        running_step: of the session, which knows the parameters.
        plan: what is asked for.
        files: where it goes.
        errors: keeps failures of ours away from the training.
        rank: returns this process's rank, and how many there are.
    """

    def __init__(
        self,
        running_step: RunningStep,
        plan: SnapshotPlan,
        files: SnapshotFiles,
        errors: ErrorGuard,
        rank: Callable[[], tuple[int, int]],
    ) -> None:
        self._running_step, self._plan = running_step, plan
        self._files, self._errors = files, errors
        self._rank = rank
        self._found: deque[str] = deque(maxlen=64)  # codes, from the rules' thread
        self._known: set[str] = set()
        self._num_nonfinite = 0
        self._at_end: dict[int, str] = {}  # steps that compute their gradients, by optimizer
        self._taken: tuple[int, str] = (-1, "")  # the last moment, whose other optimizers follow
        self._overhead_s = 0.0

    def take_finding(self, code: str) -> None:
        """Take note of a new finding; may run on any thread."""
        is_kept = code in SEEN_AT_ONCE and self._num_nonfinite > 0
        if (self._plan.on_finding or self._plan.batch) and code not in self._known and not is_kept:
            self._known.add(code)
            self._found.append(code)

    def step_begins(self, optimizer: Any, closure: bool, compiled: bool) -> None:
        """Take a snapshot of what the optimizer is given, if one is due."""
        del compiled
        began_s = time.perf_counter()
        self._errors.call("snapshot", self._step_begins, optimizer, closure)
        self._overhead_s += time.perf_counter() - began_s

    def step_ends(self, optimizer: Any) -> None:
        """Take the snapshot of a step that has computed its gradients itself."""
        if self._at_end:
            reason = self._at_end.pop(id(optimizer), None)
            if reason is not None:
                self._errors.call("snapshot", self._take, optimizer, reason)

    def failed(self, event: EventName, error: BaseException) -> None:
        """Note a failure around an event."""
        self._errors.failed(f"snapshot.{event}", error)

    def abandon(self) -> None:
        """Leave the files to the parent: this is a forked child."""
        self._files.abandon()

    def take_overhead(self) -> float:
        """Return the seconds spent here since the last call."""
        spent_s, self._overhead_s = self._overhead_s, 0.0
        return spent_s

    def halted(self, step: int, code: str) -> None:
        """Write the batch of an update that is not made, whose gradients are written elsewhere."""
        if self._plan.batch:
            self._files.write_now(tuple(self._batch(step, code)))

    def _step_begins(self, optimizer: torch.optim.Optimizer, closure: bool) -> None:
        reason = self._reason(optimizer, closure)
        if not reason or is_capturing():
            return
        if closure and self._running_step.evaluates_first(optimizer):
            self._at_end[id(optimizer)] = reason
        else:
            self._take(optimizer, reason)

    def _reason(self, optimizer: torch.optim.Optimizer, closure: bool) -> str:
        """Return why a snapshot is due now; empty where none is."""
        step, plan = self._running_step.iteration_number, self._plan
        if self._taken[0] == step:
            return self._taken[1]
        reason = ""
        if self._found:
            reason = self._found.popleft()
        elif step in plan.steps:
            reason = str(SnapshotReason.STEP)
        elif plan.every and step % plan.every == 0:
            reason = str(SnapshotReason.EVERY)
        elif (
            (plan.on_finding or plan.batch)
            and self._num_nonfinite < MAX_NONFINITE
            and not (closure and self._running_step.evaluates_first(optimizer))
        ):
            update = self._running_step.update_at_hand(optimizer)
            if update is not None and update.num_nonfinite:
                self._num_nonfinite += 1
                reason = str(SnapshotReason.NONFINITE)
        if reason:
            self._taken = (step, reason)
        return reason

    def _take(self, optimizer: torch.optim.Optimizer, reason: str) -> None:
        held = self._running_step.held_parameters(optimizer)
        if held is None:
            return
        step, (rank, size) = self._running_step.iteration_number, self._rank()
        named: dict[SnapshotContent, dict[str, Tensor]] = {}
        if self._takes_gradients(reason):
            named[SnapshotContent.GRADIENTS] = {
                name: p.grad for name, p in held.parameters.items() if p.grad is not None
            }
            if self._plan.weights:
                named[SnapshotContent.WEIGHTS] = dict(held.parameters)
        kept = {
            content: {n: t for n, t in tensors.items() if is_stored_here(t, rank)}
            for content, tensors in named.items()
        }
        bytes_needed = sum(num_bytes(tensors.values()) for tensors in kept.values())
        if not self._files.has_room(reason, bytes_needed):
            return
        files = [
            StoredFile(
                snapshot_file(step, content, held.optimizer, rank),
                copies_of(tensors),
                {
                    **_metadata(step, content, reason, rank, size),
                    "optimizer": str(held.optimizer),
                    "optimizer_name": held.name,
                    "scale": repr(held.scale if content is SnapshotContent.GRADIENTS else 1.0),
                    "shards": json.dumps(placements_of(tensors)),
                },
            )
            for content, tensors in kept.items()
            if tensors
        ]
        if self._plan.batch and _is_of_finding(reason) and rank == 0:
            files += self._batch(step, reason)
        if files:
            self._files.put(Moment(tuple(files), bytes_needed, reason == str(SnapshotReason.EVERY)))

    def _takes_gradients(self, reason: str) -> bool:
        return self._plan.on_finding or not _is_of_finding(reason)

    def _batch(self, step: int, reason: str) -> list[StoredFile]:
        """Return what the models were called with, if that is still as it was."""
        rank, size = self._rank()
        tensors = batch_tensors(self._running_step.batches)
        if not tensors:
            return []
        metadata = _metadata(step, SnapshotContent.BATCH, reason, rank, size)
        name = snapshot_file(step, SnapshotContent.BATCH, 0, rank)
        return [StoredFile(name, copies_of(tensors), metadata)]


def _metadata(
    step: int, content: SnapshotContent, reason: str, rank: int, size: int
) -> dict[str, str]:
    return {
        "step": str(step),
        "content": str(content),
        "reason": reason,
        "rank": str(rank),
        "world_size": str(size),
    }


def _is_of_finding(reason: str) -> bool:
    return reason not in (SnapshotReason.EVERY, SnapshotReason.STEP)
