"""`backward`: the loss, its graph, and which optimizers' gradients it added to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from seismograd.listen.calls.within import stepping
from seismograd.listen.facts import Facts
from seismograd.listen.graph import Leaf, leaves_in_order
from seismograd.listen.guard import Guard
from seismograd.listen.hooks import Hooks
from seismograd.listen.iteration import Stepped
from seismograd.listen.lanes import Lane
from seismograd.listen.log import Log
from seismograd.listen.losses import Losses
from seismograd.listen.lossinput import LossInputs
from seismograd.listen.lossterms import LossTerms
from seismograd.listen.often import is_looked_at
from seismograd.listen.pairs import Compared
from seismograd.listen.reader import Reader
from seismograd.listen.reading import NO_COLUMNS, carried_columns, look_at, look_at_others
from seismograd.listen.registry import Registry
from seismograd.listen.scalars import Scalar, total_of
from seismograd.listen.switches import Switches
from seismograd.listen.turns import Turns
from seismograd.listen.windows import Window
from seismograd.listen.zerogradients import ZeroGradients
from seismograd.schema import EventFlag, EventKind, StepFlag

SHARED, CLOSURE, OVER = int(EventFlag.SHARED), int(EventFlag.CLOSURE), int(EventFlag.USED | EventFlag.EMPTY)


class Backwards:
    """Also of trainings without an optimizer: that the script has changed weights by hand is seen at the next backward."""

    def __init__(self, guard: Guard, log: Log, registry: Registry, turns: Turns, reader: Reader, sampling: bool, facts: Facts) -> None:
        self._guard, self._log, self._registry, self._turns, self._reader = guard, log, registry, turns, reader
        self._sampling, self._facts = sampling, facts
        self._losses = Losses(log)
        self._lr = Scalar(None)  # of an optimizer that torch's hooks do not see
        self._zero_gradients = ZeroGradients(facts, registry.roster)
        self._switches = Switches(facts, registry.roster)
        self._loss_terms = LossTerms(facts)
        self._hooks = Hooks(facts)
        self._loss_inputs = LossInputs(facts, registry.roster)
        self.num_heard = 0
        self._touched = False  # whether any backward has reached a parameter of any optimizer
        self._leaves: list[Leaf] = []  # of the backward that is running, while nothing has been touched

    def backward_begins(self, lane: Lane, tensors: Any) -> None:
        """The outermost backward begins: a new iteration, if the one before has stepped."""
        self.num_heard += 1
        registry = self._registry
        if not self._touched:
            self.step_by_hand(lane)
        within = stepping(registry.windows, lane)
        if within:
            self._evaluation_begins(lane, within)
        elif lane.iteration.steps:
            self._turns.turn(lane)
        listed: tuple[Any, ...] = tensors if isinstance(tensors, tuple) else (tensors,)  # pyright: ignore[reportUnknownVariableType]
        if self.num_heard == 1:
            if registry.all_of_the_process:
                registry.discover()
            for window in registry.windows:  # now, so that this graph shows their order and the first row has it
                registry.learn(window)
        tops = [t.grad_fn if isinstance(t, torch.Tensor) else t.node for t in listed]
        if not self._touched or registry.roster.wants_order():
            self._leaves = leaves_in_order(tops)
            if registry.windows:
                registry.take_in(self._leaves)
            registry.roster.order(self._leaves)
        lane.loss = self._log.scalar(listed[0] if len(listed) == 1 else total_of(listed))
        lane.heard = self._log.heard(lane, EventKind.BACKWARD, value=lane.loss, scale=lane.loss_scale)
        windows, extras = self._of(lane), self._turns.thinning.extras
        for window in windows:
            if not window.clearing.follows_any():
                look_at_others(window)
            if window.clearing.backward_begins(bool(window.losses)):
                window.thrown_away()
            if window.apart.several and self._sampling and extras and not window.stepping:
                self._guard.call("pairs", window.apart.backward_begins, window.held)
        self._guard.call("graph", self._losses.look, lane, lane.heard, listed, tops, windows, extras)
        self._guard.call("zero gradient", self._zero_gradients.look, lane.heard.site, tops, windows)
        if is_looked_at(self.num_heard):
            self._guard.call("switches", self._switches.look, lane.heard.site)
            self._guard.call("hooks", self._hooks.backward_begins, tops, windows)
        self._guard.call("loss terms", self._loss_terms.look, lane.heard.site, listed[0], lane.loss_scale)
        self._guard.call("loss input", self._loss_inputs.look, lane.heard.site, tops)

    def backward_ends(self, lane: Lane) -> None:
        """Its gradients are in. Under a closure this is the moment to read them."""
        loss, lane.loss = lane.loss, None
        scale, lane.loss_scale = lane.loss_scale, None
        leaves, self._leaves = self._leaves, []
        heard, lane.heard = lane.heard, None
        if loss is None:
            return
        if is_looked_at(self.num_heard) and heard is not None:
            self._guard.call("hooks", self._hooks.backward_ends, heard.site)
        for window in self._of(lane):
            if not window.clearing.backward_ends():
                continue
            self._touched = True
            if heard is not None:
                heard.touched |= window.bit
                if not window.stepping:
                    window.apart.backward_heard(heard.site, heard.flags & SHARED != 0)
                    if window.apart.taking:
                        self._guard.call("pairs", window.apart.backward_ends)
            if window.last_operation < lane.last_operation:
                window.last_operation = lane.last_operation
            if window.evaluates_again:
                continue
            window.backward_ended(loss, scale)
            if window.stepping:
                self._is_of_closure(window)
            if window.stepping or window.eager:
                self._reader.read(lane, window)
        if heard is not None and not heard.touched:
            heard.unclaimed = True
        if not self._touched and self._registry.all_of_the_process and leaves:
            self._registry.by_hand.backward_ended([leaf.tensor for leaf in leaves])
            if self._registry.by_hand.held():
                self._backward_by_hand(lane, loss, scale)

    def compared(self, lane: Lane, labels: Sequence[str], parameters: Sequence[torch.Tensor], products: Any, reached: Any) -> None:
        """The script compared losses that it names: inner products of their gradients  # (L, L, P), and which reaches which  # (L, P)."""
        for window in self._registry:
            self._registry.learn(window)  # before the first step nothing was read, so no parameter has a column
        known = [i for i, p in enumerate(parameters) if p in self._registry.roster]
        columns = np.array([self._registry.roster.column(parameters[i]) for i in known], np.int64)
        sites = tuple(self._log.call_sites.labelled(label) for label in labels)
        lane.iteration.compared.append(Compared(sites, columns, products[..., known], reached[..., known]))

    def step_by_hand(self, lane: Lane, at_the_end: bool = False) -> None:
        """The script has changed weights since the last backward, and no optimizer did: that was a step."""
        by_hand = self._registry.by_hand
        if self._touched or not by_hand.held_any():
            return
        window = self._registry.without_optimizer()
        if not by_hand.stepped(at_the_end=at_the_end and window.num_steps > 0):
            return
        flags = StepFlag.BY_HAND if by_hand.optimizer is None else StepFlag.NONE
        number, clips = window.num_steps, tuple(window.clips)
        step = Stepped(window.index, number, self._lr, window.num_backwards, flags, NO_COLUMNS, clips, window.ready, window.applied)
        lane.iteration.steps.append(step)
        look_at(window)
        window.step_ended()

    def _backward_by_hand(self, lane: Lane, loss: Scalar, scale: Scalar | None) -> None:
        """It added to the gradients of what no optimizer of torch holds. The learning rate is that of now: a scheduler may change it
        before it is known that there was a step.
        """
        window, own = self._registry.without_optimizer(), self._registry.by_hand.optimizer
        self._lr = self._log.scalar(None if own is None else own.lr())
        window.clearing.added()
        window.backward_ended(loss, scale)
        self._reader.read(lane, window)

    def _of(self, lane: Lane) -> list[Window]:
        """The windows that a backward of this thread may concern: those of no other one."""
        return [w for w in self._registry.windows if w.lane is None or w.lane is lane]

    def _evaluation_begins(self, lane: Lane, within: list[Window]) -> None:
        """A step evaluates the loss itself. What other optimizers have stepped before is an iteration of its own, as without closures."""
        for window in within:
            window.evaluation_begins()
        own = {id(window.step) for window in within}
        place = next((i for i, step in enumerate(lane.iteration.steps) if id(step) in own), 0)
        if place:
            heard = {id(window.step_heard) for window in within}
            rest = lane.iteration.cut(place, next(i for i, e in enumerate(lane.iteration.events) if id(e) in heard))
            self._turns.turn(lane)
            lane.iteration = rest

    def _is_of_closure(self, window: Window) -> None:
        """The backward that has just ended was called by the step that is under way."""
        window.evaluated = True
        window.carried = carried_columns(window, self._registry.roster)
        if window.step is not None and window.step_heard is not None:
            window.step.flags, window.step.applied = StepFlag.NONE, None
            window.step_heard.flags = window.step_heard.flags & ~OVER | CLOSURE
