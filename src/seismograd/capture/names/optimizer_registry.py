"""The optimizers of the run, a window for each, and the columns of the parameters they update."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from seismograd.capture.graph.traversal import GraphLeaf
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.names.discovery import DiscoveredObjects
from seismograd.capture.names.foreign_optimizers import find_holder
from seismograd.capture.names.former_windows import FormerWindows
from seismograd.capture.names.paced_discovery import PacedDiscovery
from seismograd.capture.names.parameter_groups import groups_of, held_by
from seismograd.capture.names.parameter_names import unique
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.names.zero_optimizer import is_zero_optimizer, kind_of, name_of
from seismograd.capture.probes.manual_updates import ManualUpdates
from seismograd.capture.rows.zero_partition import ZeroPartition
from seismograd.schema import Optimizer
from seismograd.tensors.freed_memory import is_readable

BY_HAND = "by hand"


class OptimizerRegistry:
    """Knows the given optimizers, or all that the process makes when neither optimizers nor models
    were given.
    """

    def __init__(
        self, models: Sequence[torch.nn.Module], optimizers: Sequence[torch.optim.Optimizer]
    ) -> None:
        # the optimizer that steps, where a framework has wrapped it
        optimizers = [o if _has_groups(o) else _wrapped(o) for o in optimizers]
        self.optimizers: list[Optimizer] = []
        self.parameter_table = ParameterTable(models)
        self.by_hand = ManualUpdates()
        self.all_of_the_process = not (models or optimizers)
        # those of given models, too
        self.seeks_optimizers = not optimizers
        self._given = {id(o) for o in optimizers}
        self._windows: dict[int, OptimizerWindow] = {}
        self.open_windows: tuple[OptimizerWindow, ...] = ()
        self._living: dict[int, weakref.ref[torch.optim.Optimizer]] = {}
        # where references tell of a death: no frame of ours may run there
        self.died: deque[weakref.KeyedRef[int, torch.optim.Optimizer]] = deque()
        self._former = FormerWindows()
        self._learned: set[int] = set()  # indices of windows that have been learned once
        self._without_optimizer: OptimizerWindow | None = None
        self._discovery = PacedDiscovery()
        self.has_discovered = False  # whether `discover` has come to its end
        for optimizer in optimizers:
            self._open(optimizer, DiscoveredObjects())

    @property
    def windows(self) -> tuple[OptimizerWindow, ...]:
        """Return the windows of the optimizers."""
        if self.died:
            self._close_dead()
        # a signal handler of the program's has broken off what had opened the last of them
        if len(self.open_windows) != len(self._windows):
            self.open_windows = tuple(self._windows.values())
        return self.open_windows

    def __iter__(self) -> Iterator[OptimizerWindow]:
        """Iterate over the windows of the optimizers."""
        return iter(self.windows)

    def left(self) -> list[OptimizerWindow]:
        """Return the windows whose optimizers are gone, and that no other one has taken over, if
        they had backwards that no step had used.
        """
        return self._former.left(self.windows)

    def known(self, optimizer: torch.optim.Optimizer) -> OptimizerWindow | None:
        """Return the window of a known optimizer."""
        if self.died:
            self._close_dead()
        return self._windows.get(id(optimizer))

    def window(self, optimizer: torch.optim.Optimizer) -> OptimizerWindow | None:
        """Return the window of an optimizer, opened on its first call; `None` for one that is not
        watched.
        """
        window = self.known(optimizer)
        if window is None and not _has_groups(optimizer):
            optimizer = _wrapped(optimizer)
            window = self._windows.get(id(optimizer))
        if window is None and (self.all_of_the_process or self._concerns(optimizer)):
            self.discover([optimizer])
            window = self._windows.get(id(optimizer))
        return window

    def without_optimizer(self) -> OptimizerWindow:
        """Return the window of parameters that the script updates manually, or a framework by an
        optimizer of its own class.
        """
        if self._without_optimizer is None:
            index = len(self.optimizers)
            own = self._discovery.search_once(find_holder, self.by_hand.held())
            name = BY_HAND if own is None else own.kind
            self.by_hand.optimizer = own
            self.optimizers.append(Optimizer(index, "" if own is None else own.kind, name))
            self._without_optimizer = OptimizerWindow(self.by_hand.held, index, name)
            self._without_optimizer.by_hand = True
            self._without_optimizer.track_clearing()
        return self._without_optimizer

    @property
    def has_by_hand(self) -> bool:
        """Return whether there is a window of parameters that no optimizer of torch updates."""
        return self._without_optimizer is not None

    def holding(self, ids: frozenset[int]) -> list[OptimizerWindow]:
        """Return the windows that hold any of the parameters with these ids."""
        windows = (
            self.windows
            if self._without_optimizer is None
            else (*self.windows, self._without_optimizer)
        )
        return [w for w in windows if not ids.isdisjoint(map(id, w.held()))]

    def held_beside(self, window: OptimizerWindow) -> set[int]:
        """Return the ids of the parameters that other optimizers hold."""
        return {id(p) for each in self.windows if each is not window for p in each.held()}

    def optimizer_of(self, tensor: torch.Tensor) -> torch.optim.Optimizer | None:
        """Return the optimizer that updates a parameter; `None` where none is known."""
        for reference in list(self._living.values()):
            optimizer = reference()
            if optimizer is not None and any(p is tensor for p in held_by(optimizer)):
                return optimizer
        return None

    def discover(self, more: Sequence[torch.optim.Optimizer] = ()) -> None:
        """Discover what the script has made, and name it."""
        around = self._discovery.look([p for each in more for p in held_by(each)])
        for optimizer in (*more, *(around.optimizers if self.seeks_optimizers else ())):
            if (
                self.known(optimizer) is None
                and _has_groups(optimizer)
                and (self.all_of_the_process or self._concerns(optimizer))
            ):
                self._open(optimizer, around)
        self._learn(around)
        self.has_discovered = True

    def learn(self, window: OptimizerWindow) -> None:
        """Add the parameters of a window that are new to it, as when a group was added."""
        held = window.held()
        table = self.parameter_table
        is_new = window.index not in self._learned  # it may have taken over another's
        if table.is_learning or is_new or not all(table.owned(p) for p in held):
            self._learn(self._discovery.look(held))
            self._learned.add(window.index)
        if held and not window.clearing.parameters:
            window.track_clearing()

    def take_in(self, leaves: Sequence[GraphLeaf]) -> None:
        """Add the parameters that a graph shows and that have no column yet, if they are
        watched.
        """
        strangers = self.parameter_table.strangers(leaves)
        if strangers:
            self.parameter_table.take_in(strangers, self._discovery.look(strangers))

    def named_gradients(self) -> dict[str, torch.Tensor]:
        """Return the current gradients by the names of their parameters, without those whose memory
        was freed.
        """
        table = self.parameter_table
        return {
            table.parameters[table.column(p)].name: p.grad
            for window in self
            for p in window.held()
            if p in table and p.grad is not None and is_readable(p.grad)
        }

    def clear(self) -> None:
        """Forget every window."""
        self._windows.clear()
        self.open_windows = ()
        self._living.clear()
        self._former.clear()
        self._learned.clear()

    def _concerns(self, optimizer: torch.optim.Optimizer) -> bool:
        """Return whether it was given, or updates a parameter of a given model."""
        if id(optimizer) in self._given:
            return True
        self.parameter_table.learn([], DiscoveredObjects())
        return any(p in self.parameter_table for p in held_by(optimizer))

    def _open(self, optimizer: torch.optim.Optimizer, around: DiscoveredObjects) -> None:
        self._close_dead()
        key = id(optimizer)
        reference = self._living[key] = weakref.KeyedRef(optimizer, self.died.append, key)

        def held() -> list[torch.Tensor]:
            alive = reference()
            if alive is None:
                return []
            kept: Any = vars(alive).get("param_groups")
            # as nearly all have them
            if type(kept) is list and len(kept) == 1 and type(kept[0]) is dict:  # pyright: ignore
                params = kept[0].get("params")  # pyright: ignore
                if type(params) is list:  # pyright: ignore
                    return params.copy()  # pyright: ignore
            return held_by(alive)

        parameters = held()
        window = self._windows[key] = self._predecessor(optimizer, parameters) or self._new_window(
            optimizer, parameters, held, around
        )
        window.held = held
        self.open_windows = tuple(self._windows.values())

    def _predecessor(
        self, optimizer: torch.optim.Optimizer, parameters: list[torch.Tensor]
    ) -> OptimizerWindow | None:
        """Return the window that an optimizer takes over, to go on with."""
        window = self._former.predecessor(kind_of(optimizer), parameters, self._windows.values())
        if window is not None:
            window.num_made += 1
            window.step_raised()
        return window

    def _new_window(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: list[torch.Tensor],
        held: Callable[[], list[torch.Tensor]],
        around: DiscoveredObjects,
    ) -> OptimizerWindow:
        index, key = len(self.optimizers), id(optimizer)
        name = unique(
            [name_of(optimizer, around.names) or kind_of(optimizer)],
            [o.name for o in self.optimizers],
        )[0]
        entry = Optimizer(index, kind_of(optimizer), name)
        window = OptimizerWindow(held, index, name)
        if is_zero_optimizer(optimizer):
            window.partition = ZeroPartition(optimizer)
        window.track_clearing()
        # Without a call in between, where an exception of the program's could arrive: an optimizer
        # that is named has its window.
        self._windows[key] = window
        self.optimizers += [entry]
        self._former.opened(window, kind_of(optimizer), parameters)
        return window

    def _close_dead(self) -> None:
        """Close the windows of optimizers that have died, whose ids may be reused."""
        while self.died:
            reference = self.died[0]
            if self._living.get(reference.key) is reference:
                window = self._windows.pop(reference.key, None)
                if window is not None:
                    self._former.closed(window)
                self.open_windows = tuple(self._windows.values())
                del self._living[reference.key]
            # last: an exception of the program's may arrive before
            self.died.popleft()

    def _learn(self, around: DiscoveredObjects) -> None:
        taken = [
            (window.index, window.name, groups_of(o))
            for key, window in list(self._windows.items())
            if (r := self._living.get(key)) and (o := r()) is not None
        ]
        if self._without_optimizer is not None:
            taken.append(
                (
                    self._without_optimizer.index,
                    self._without_optimizer.name,
                    [{"params": self.by_hand.held()}],
                )
            )
        self.parameter_table.learn(taken, around)


def _has_groups(optimizer: object) -> bool:
    """Return whether it keeps parameters itself."""
    return "param_groups" in vars(optimizer) or is_zero_optimizer(optimizer)


def _wrapped(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the optimizer inside an object that only passes for one (as those of
    Lightning and accelerate do).
    """
    for name in ("_optimizer", "optimizer"):
        inner = vars(optimizer).get(name)
        if isinstance(inner, torch.optim.Optimizer):
            return inner
    return optimizer
