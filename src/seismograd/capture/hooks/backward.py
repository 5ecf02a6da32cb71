"""What a call of `torch.autograd.backward` means: the loss, its graph, and the optimizers whose
gradients it added to (`capture.hooks.backward_calls` tells of it).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from seismograd.capture.birth.birth_observer import BirthObserver
from seismograd.capture.graph.loss_inspection import LossInspection
from seismograd.capture.graph.traversal import GraphLeaf, leaves_in_order
from seismograd.capture.hooks.enclosing_steps import stepping
from seismograd.capture.loop.error_guard import ErrorGuard
from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.iteration import CapturedEvent, OptimizerStep
from seismograd.capture.loop.iteration_queue import IterationQueue
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.shared_weights import evaluated_first, is_copy_of_stepped
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.probes.per_loss_gradients import ComparedLosses
from seismograd.capture.probes.summed_losses import SummedLosses
from seismograd.capture.probes.unstepped_weights import SEEN_AT
from seismograd.capture.rows.gradient_reader import GradientReader
from seismograd.capture.rows.window_columns import NO_COLUMNS, carried_columns
from seismograd.schema import EventFlag, EventKind, StepFlag
from seismograd.tensors.device_scalars import Scalar, total_of

SHARED, CLOSURE, OVER = (
    int(EventFlag.SHARED),
    int(EventFlag.CLOSURE),
    int(EventFlag.USED | EventFlag.EMPTY),
)


class BackwardHooks:
    """Handles backwards, also of trainings without an optimizer: a manual weight update shows at
    the next backward.
    """

    def __init__(
        self,
        guard: ErrorGuard,
        log: EventLog,
        registry: OptimizerRegistry,
        iteration_queue: IterationQueue,
        reader: GradientReader,
        sampling: bool,
        facts: Facts,
        births: BirthObserver,
        every_tenth: bool,
    ) -> None:
        self._guard, self._log, self._registry, self._iteration_queue, self._reader = (
            guard,
            log,
            registry,
            iteration_queue,
            reader,
        )
        self._sampling = sampling
        self.inspection = LossInspection(
            guard,
            log,
            registry.parameter_table,
            facts,
            births,
            registry.take_in,
            SummedLosses(log.call_sites, sampling, every_tenth),
        )
        self._lr = Scalar(None)  # of an optimizer that torch's hooks do not see
        self.num_heard = 0
        self.has_looked = False  # for optimizers and their parameters
        self.touched = False  # whether any backward has reached a parameter of any optimizer
        # the running backward, while nothing has been touched
        self.leaves: list[GraphLeaf] = []

    def backward_begins(self, thread_state: ThreadState, tensors: Any) -> None:
        """Handle the start of the outermost backward: a new iteration if the previous one has
        stepped.
        """
        self.num_heard += 1
        registry = self._registry
        if not self.touched:
            self.step_by_hand(thread_state)
        within: list[OptimizerWindow] = []
        all_windows = registry.windows
        for window in all_windows:
            if window.stepping:
                within = stepping(all_windows, thread_state)
                break
        if within:
            self._evaluation_begins(thread_state, within)
        elif thread_state.iteration.steps:
            self._iteration_queue.end_iteration(thread_state)
        tops: list[Any]
        listed: tuple[Any, ...]
        if isinstance(tensors, torch.Tensor):
            listed, tops = (tensors,), [tensors.grad_fn]
        else:
            listed = tensors if isinstance(tensors, tuple) else (tensors,)  # pyright: ignore[reportUnknownVariableType]
            tops = [t.grad_fn if isinstance(t, torch.Tensor) else t.node for t in listed]
        is_first = not self.has_looked
        if is_first:
            if registry.seeks_optimizers and not registry.has_discovered:
                registry.discover()
            # Now, so that this graph shows their order and the first row has it.
            all_windows = registry.windows
            for window in all_windows:
                registry.learn(window)
            self.has_looked = True  # unless an exception of the program's has arrived before
        table = registry.parameter_table
        if not self.touched or (table.unordered and table.wants_order()):
            self.leaves = leaves_in_order(tops)
            if all_windows:
                registry.take_in(self.leaves)
            table.order(self.leaves)
        if is_first:
            for window in all_windows:
                self._guard.call("preparation", self._reader.prepare, window)
        thread_state.loss = self._log.scalar(listed[0] if len(listed) == 1 else total_of(listed))
        thread_state.captured = self._log.record(
            thread_state, EventKind.BACKWARD, value=thread_state.loss, scale=thread_state.loss_scale
        )
        extras = self._iteration_queue.thinning.extras
        windows = self._of(thread_state, all_windows)
        captured = thread_state.captured
        for window in windows:
            if not window.clearing.follows_any():
                window.look_at_others()
            if window.clearing.backward_begins(bool(window.losses)):
                window.thrown_away()
            if window.evaluated and not window.evaluates_again:
                self._evaluates_again(window, captured)
            if window.handed is not None:
                self._guard.call(
                    "handed", window.handed.backward_begins, partial(self._below, tops)
                )
            if window.per_loss.several and self._sampling and extras and not window.stepping:
                self._guard.call("pairs", window.per_loss.backward_begins, window.held)
        self.inspection.backward_begins(
            thread_state, captured, listed, tops, windows, self.num_heard, extras
        )

    def backward_ends(self, thread_state: ThreadState) -> None:
        """Handle the end of a backward: its gradients are in. Under a closure this is the moment to
        read them.
        """
        loss, thread_state.loss = thread_state.loss, None
        scale, thread_state.loss_scale = thread_state.loss_scale, None
        leaves, self.leaves = self.leaves, []
        captured, thread_state.captured = thread_state.captured, None
        if loss is None:
            return
        if captured is not None:
            self.inspection.backward_ends(captured, self.num_heard)
        windows = self._of(thread_state, self._registry.windows)
        repeated = [window for window in windows if window.evaluates_again]
        for window in windows:
            if window.handed is not None:
                self._guard.call("handed", window.handed.backward_ends)
            if not window.clearing.backward_ends():
                continue
            self.touched = True
            if captured is not None:
                captured.touched |= window.bit
                if not window.stepping:
                    window.per_loss.backward_heard(captured.site, captured.flags & SHARED != 0)
                    if window.per_loss.taking:
                        self._guard.call("pairs", window.per_loss.backward_ends)
            if window.last_operation < thread_state.last_operation:
                window.last_operation = thread_state.last_operation
            if window.evaluates_again:
                continue
            first = evaluated_first(window, repeated) if repeated else None
            window.backward_ended(loss if first is None else first, scale)
            if not window.was_stepped and window.num_heard >= SEEN_AT:
                self._guard.call(
                    "unstepped",
                    window.unstepped.backward_ended,
                    window.clearing.parameters,
                    window.num_heard,
                    partial(self._registry.held_beside, window),
                )
            if window.stepping:
                self._is_of_closure(window)
            if window.stepping or window.eager:
                self._reader.read(thread_state, window)
            if window.stepping:
                self._guard.call("birth", self.inspection.births.step_begins, window)
        if captured is not None and not captured.touched:
            captured.unclaimed = True
        if not self.touched and self._registry.all_of_the_process and leaves:
            self._registry.by_hand.backward_ended([leaf.tensor for leaf in leaves])
            if self._registry.by_hand.held():
                self._backward_by_hand(thread_state, loss, scale)

    def compared(
        self,
        thread_state: ThreadState,
        labels: Sequence[str],
        parameters: Sequence[torch.Tensor],
        products: Any,
        reached: Any,
    ) -> None:
        """Record the script's comparison of named losses: inner products of their gradients
        # (L, L, P), and which reaches which  # (L, P).
        """
        for window in self._registry:
            # before the first step nothing was read, so no parameter has a column
            self._registry.learn(window)
        known = [i for i, p in enumerate(parameters) if p in self._registry.parameter_table]
        columns = np.array(
            [self._registry.parameter_table.column(parameters[i]) for i in known], np.int64
        )
        self.inspection.sums.named_at.add(self._log.call_sites.here())
        sites = tuple(self._log.call_sites.labelled(label) for label in labels)
        thread_state.iteration.compared.append(
            ComparedLosses(sites, columns, products[..., known], reached[..., known])
        )

    def step_by_hand(self, thread_state: ThreadState, at_the_end: bool = False) -> None:
        """Record a manual step: the script has changed weights since the last backward, and no
        optimizer did.
        """
        by_hand = self._registry.by_hand
        if self.touched or not by_hand.held_any():
            return
        window = self._registry.without_optimizer()
        if not by_hand.stepped(at_the_end=at_the_end and window.num_steps > 0):
            return
        flags = StepFlag.NONE
        if by_hand.optimizer is None:
            is_copy = is_copy_of_stepped(thread_state, by_hand.held(), self._registry)
            flags = StepFlag.COPIED if is_copy else StepFlag.BY_HAND
        number, clips = window.num_steps, tuple(window.clips)
        step = OptimizerStep(
            window.index,
            number,
            self._lr,
            window.num_backwards,
            flags,
            NO_COLUMNS,
            clips,
            window.ready,
            window.applied,
        )
        thread_state.iteration.steps.append(step)
        window.track_clearing()
        window.step_ended()

    def _backward_by_hand(
        self, thread_state: ThreadState, loss: Scalar, scale: Scalar | None
    ) -> None:
        """Handle a backward that added to gradients of parameters that no torch optimizer holds.
        The learning rate is read now, because a scheduler may change it before we know that there
        was a step.
        """
        window, own = self._registry.without_optimizer(), self._registry.by_hand.optimizer
        self._lr = self._log.scalar(None if own is None else own.lr())
        window.clearing.added()
        window.backward_ended(loss, scale)
        self._reader.read(thread_state, window)

    def _below(self, tops: list[Any]) -> list[torch.Tensor]:
        """Return the leaves of the graph of the running backward."""
        return [leaf.tensor for leaf in self.leaves or leaves_in_order(tops)]

    @staticmethod
    def _of(
        thread_state: ThreadState, windows: tuple[OptimizerWindow, ...]
    ) -> Sequence[OptimizerWindow]:
        """Return those of these windows that a backward of this thread may concern: all but those
        of other threads.
        """
        for window in windows:
            if window.thread_state is not None and window.thread_state is not thread_state:
                return [
                    w for w in windows if w.thread_state is None or w.thread_state is thread_state
                ]
        return windows

    def _evaluation_begins(self, thread_state: ThreadState, within: list[OptimizerWindow]) -> None:
        """Handle a step that evaluates the loss itself. Steps that other optimizers made before
        form an iteration of their own, as without closures.
        """
        for window in within:
            window.evaluation_begins()
        own = {id(window.step) for window in within}
        position = next(
            (i for i, step in enumerate(thread_state.iteration.steps) if id(step) in own), 0
        )
        if position:
            captured = {id(window.step_heard) for window in within}
            rest = thread_state.iteration.cut(
                position,
                next(i for i, e in enumerate(thread_state.iteration.events) if id(e) in captured),
            )
            self._iteration_queue.end_iteration(thread_state)
            thread_state.iteration = rest

    def _evaluates_again(self, window: OptimizerWindow, captured: CapturedEvent) -> None:
        """Note a later evaluation within the step that finds the gradients of an earlier one."""
        if window.clearing.is_kept_from_other_weights():
            captured.flags |= EventFlag.KEPT
            window.carried = carried_columns(window, self._registry.parameter_table)
            window.evaluates_again = True

    def _is_of_closure(self, window: OptimizerWindow) -> None:
        """Return whether the backward that has just ended was called by the running step."""
        window.evaluated = True
        window.clearing.evaluated()
        window.carried = carried_columns(window, self._registry.parameter_table)
        if window.step is not None and window.step_heard is not None:
            window.step.flags, window.step.applied = StepFlag.NONE, None
            window.step_heard.flags = window.step_heard.flags & ~OVER | CLOSURE
