"""The step that an optimizer is about to make: what it will use, and how it is left out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch

from seismograd.capture.birth.birth_observer import BirthObserver
from seismograd.capture.birth.held_calls import HeldCall
from seismograd.capture.guard.applied_update import AppliedUpdate, applied_update
from seismograd.capture.hooks.optimizer_step import StepHooks
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.iteration_queue import IterationQueue
from seismograd.capture.loop.left_out_step import leave_out
from seismograd.capture.loop.thread_state import ThreadStates
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.snapshots.held_parameters import HeldParameters
from seismograd.schema import FactKind
from seismograd.tensors.stored_copies import copies_of, placements_of, write_tensors


class RunningStep:
    """What acts on a training asks it: the guard, the snapshots and who stops at a finding. They
    come after the session, which has read the gradients by then.

    `lock` is the session's, held while its parts are read.
    """

    def __init__(
        self,
        lock: AbstractContextManager[object],
        thread_states: ThreadStates,
        registry: OptimizerRegistry,
        iteration_queue: IterationQueue,
        steps: StepHooks,
        births: BirthObserver,
        facts: Facts,
    ) -> None:
        self._lock, self._thread_states, self._registry = lock, thread_states, registry
        self._iteration_queue, self._steps = iteration_queue, steps
        self._births, self._facts = births, facts

    def evaluates_first(self, optimizer: torch.optim.Optimizer) -> bool:
        """Return whether the running step of this optimizer will compute its gradients itself."""
        with self._lock:
            window = self._registry.known(optimizer)
            return (
                window is not None
                and window.stepping
                and not window.steps_within
                and window.ready is None
            )

    def update_at_hand(self, optimizer: torch.optim.Optimizer) -> AppliedUpdate | None:
        """Return what the running step of this optimizer is about to use; `None` where it has not
        begun, or runs within another step of the same optimizer.
        """
        with self._lock:
            window = self._registry.known(optimizer)
            if window is None or not window.stepping or window.steps_within:
                return None
            self._steps.read_evaluated(self._thread_states.here(), window)
            return applied_update(window)

    def leave_out_update(
        self, optimizer: torch.optim.Optimizer, reason: str, norm: float, usual: float
    ) -> None:
        """Clear the gradients of an optimizer whose step is about to use them, and record that the
        step is not made. What exchanges its code is up to the caller.
        """
        with self._lock:
            window = self._registry.known(optimizer)
            if window is not None:
                leave_out(window)
                self._facts.report(
                    FactKind.GUARDED,
                    optimizer=window.index,
                    reason=reason,
                    norm=norm,
                    usual=usual,
                )

    @property
    def iteration_number(self) -> int:
        """Return the number that the current iteration will have."""
        return self._iteration_queue.num_rows

    @property
    def batches(self) -> Sequence[HeldCall]:
        """Return the calls of models before the running step, where they are kept."""
        return self._births.batches

    def held_parameters(self, optimizer: torch.optim.Optimizer) -> HeldParameters | None:
        """Return the parameters of an optimizer by name; `None` where it is not known."""
        with self._lock:
            window, table = self._registry.known(optimizer), self._registry.parameter_table
            if window is None:
                return None
            named = {table.parameters[table.column(p)].name: p for p in window.held() if p in table}
            scale = 1.0 if window.grad_scale is None else window.grad_scale.read()
            return HeldParameters(window.index, window.name, named, scale)

    def save_gradients(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the current gradients, by the names of their parameters, to a file; without those
        whose memory was freed. `metadata` is what the file says of them.
        """
        with self._lock:
            gradients = self._registry.named_gradients()
            placed = {"shards": json.dumps(placements_of(gradients))}
            write_tensors(copies_of(gradients), path, {**metadata, **placed})
