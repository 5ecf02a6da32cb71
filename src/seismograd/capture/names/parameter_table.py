"""The columns of the record: each tensor's name, position in the order of execution, and
optimizer.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

import torch

from seismograd.capture.graph.traversal import GraphLeaf
from seismograd.capture.names.column_entry import ColumnEntry
from seismograd.capture.names.column_owners import let_go, release, unowned
from seismograd.capture.names.discovery import DiscoveredObjects
from seismograd.capture.names.execution_order import learn_order
from seismograd.capture.names.gathered_parameters import originals
from seismograd.capture.names.graph_parameters import strangers_among, unregistered_in
from seismograd.capture.names.parameter_groups import setting
from seismograd.capture.names.parameter_names import (
    NamedParameter,
    frozen_in_name,
    loose_name,
    named,
    unique,
)
from seismograd.capture.names.trained_models import TrainedModels
from seismograd.printable import printable
from seismograd.schema import Parameter

# backwards whose graph is read for the order of execution, after each change of the table
MAX_WALKS = 8

Groups = Sequence[Mapping[str, Any]]


class ParameterTable:
    """Grows as the script makes models and optimizers; a column never moves or disappears."""

    def __init__(self, models: Sequence[torch.nn.Module] = ()) -> None:
        self._models = TrainedModels(models)
        self._entries: list[ColumnEntry] = []
        self._columns: dict[int, int] = {}
        self._held: frozenset[int] = frozenset()  # ids of the optimizers' parameters
        self._by_name: dict[str, int] = {}
        self._walks = 0
        self._num_walks = 0  # ever
        self._frozen: list[weakref.ref[torch.Tensor]] = []  # and no optimizer holds them
        # whether there are trainable parameters whose position in the order of execution is unknown
        self.unordered = False
        self.version = 0  # grows with every change
        # `learn` is running, or an exception of the program's has broken it off
        self.is_learning = False
        self.known_gone = 0  # see `num_gone`; without those of `died`
        # Where references tell of a death: no frame of ours runs there, in which Python would lose
        # what a signal handler raises.
        self.died: deque[weakref.KeyedRef[int, torch.Tensor]] = deque()
        self.parameters: tuple[Parameter, ...] = ()

    def __contains__(self, tensor: torch.Tensor) -> bool:
        return id(tensor) in self._living_columns()

    @property
    def num_gone(self) -> int:
        """Return how many tensors have died or lost their column."""
        if self.died:
            self._living_columns()
        return self.known_gone

    def column(self, tensor: torch.Tensor) -> int:
        """Return the column of a tensor; raises `KeyError` when it has none."""
        return self._living_columns()[id(tensor)]

    def columns(self, tensors: Sequence[torch.Tensor]) -> list[int]:
        """Return the columns of tensors; -1 for one that has none."""
        known = self._living_columns() if self.died else self._columns
        return [known.get(id(tensor), -1) for tensor in tensors]

    def updated_by(self, optimizer: int, columns: Set[int]) -> list[Parameter]:
        """Return those of these columns that the optimizer with this index updates."""
        return [
            each
            for column, each in enumerate(self.parameters)
            if column in columns and each.optimizer == optimizer
        ]

    def owned(self, tensor: torch.Tensor) -> bool:
        """Return whether the tensor has a column, and an optimizer that updates it."""
        column = self._living_columns().get(id(tensor))
        return column is not None and self._entries[column].optimizer is not None

    def thaw(self, columns: Sequence[int]) -> None:
        """Mark a search for thawed parameters if any of these, which have gradients, was frozen
        when last inspected.
        """
        if not all(self.parameters[column].trainable for column in columns):
            self._walks = 0
            self._changed()

    def look_for_others(self) -> None:
        """Inspect parameters that no optimizer holds and that were frozen, for they may have been
        thawed; and add those that models have got since they were last looked at.
        """
        if self._frozen and any(
            (tensor := each()) is not None and tensor.requires_grad for each in self._frozen
        ):
            self._walks = 0
            self._changed()
        before = len(self._entries)
        for number, module, prefix in self._models.changed():
            for one in named(module, prefix):
                self._add(one, number)
        if len(self._entries) != before:
            self._walks = 0
            self._changed()

    def models(self) -> Iterator[tuple[torch.nn.Module, str]]:
        """Yield the outermost modules that are trained, and the prefixes of their parameters'
        names.
        """
        for _, module, prefix in self._models:
            yield module, prefix

    def model(self, column: int) -> int:
        """Return which model holds the parameter of a column; -1 for none."""
        return self._entries[column].model

    def unowned(self, models: Set[int]) -> list[tuple[torch.Tensor, int]]:
        """Return the trainable parameters that no optimizer holds, with their columns: of these
        models, and of models of which no optimizer holds any.
        """
        return unowned(self._entries, models)

    def learn(
        self, optimizers: Iterable[tuple[int, str, Groups]], around: DiscoveredObjects
    ) -> None:
        """Add the parameters of these (index, name, parameter groups) and of the models that hold
        them, as discovered.
        """
        self.is_learning = True
        listed = list(optimizers)
        held = [p for _, _, groups in listed for group in groups for p in setting(group, "params")]
        self._held = frozenset(map(id, held))
        self._take_models(held, around)
        release(self._entries, self._held, {index for index, _, _ in listed})
        for index, name, groups in listed:
            self._take_groups(index, name, groups, around.names)
        self._walks = 0
        self._changed()
        self.is_learning = False

    def _take_models(self, held: list[torch.Tensor], around: DiscoveredObjects) -> None:
        self._models.find(held, around)
        for number, module, prefix in self._models:
            in_name, held_by_it = frozen_in_name(module), named(module, prefix)
            let_go(self._entries, number, {id(one.tensor) for one in held_by_it}, self._held)
            for one in held_by_it:
                self._add(one, number)
                column = self._living_columns().get(id(one.tensor))
                if column is not None:
                    self._entries[column].frozen_in_name = id(one.tensor) in in_name

    def _take_groups(
        self, index: int, name: str, groups: Groups, variables: Mapping[int, str]
    ) -> None:
        for number, group in enumerate(groups):
            given: Sequence[str] = setting(group, "param_names") or ()
            for position, tensor in enumerate(setting(group, "params")):
                if id(tensor) not in self._living_columns():
                    given_name = given[position] if position < len(given) else None
                    self._add(
                        NamedParameter(
                            tensor,
                            loose_name(tensor, name, number, position, given_name, variables),
                            "",
                        ),
                        -1,
                    )
                # None: a lazy parameter that has no shape yet
                column = self._columns.get(id(tensor))
                if column is not None and self._entries[column].optimizer is None:
                    self._entries[column].optimizer, self._entries[column].group = index, number

    def _add(self, one: NamedParameter, model: int) -> None:
        key = id(one.tensor)
        if key in self._living_columns() or torch.nn.parameter.is_lazy(one.tensor):
            return
        reference = weakref.KeyedRef(one.tensor, self.died.append, key)
        own_name = printable(one.name)
        column = self._by_name.get(own_name)
        # a replaced module: its column continues
        if column is not None and self._is_free(column, model):
            entry = self._entries[column]
            former = entry.tensor()
            if former is not None:
                self._gone(id(former))
            entry.tensor, entry.module, entry.optimizer, entry.group = (
                reference,
                one.module,
                None,
                None,
            )
            entry.walks, entry.beside = 0, frozenset()
        else:
            name = unique([own_name], self._by_name)[0]
            column = len(self._entries)
            entry = ColumnEntry(name, reference, one.module, one.aliases, model)
            # Without a call in between, where an exception of the program's could arrive.
            self._entries += [entry]
            self._by_name[name] = column
        self._columns[key] = column

    def _is_free(self, column: int, model: int) -> bool:
        """Return whether another tensor of the same name and model may take over the column because
        nobody trains its tensor.
        """
        entry = self._entries[column]
        former = entry.tensor()
        return entry.model == model and (former is None or id(former) not in self._held)

    def _gone(self, key: int) -> None:
        """Handle the death of a tensor, whose id may be reused, or the loss of its column."""
        self.known_gone += 1
        self._columns.pop(key, None)

    def _living_columns(self) -> dict[int, int]:
        """Return the columns by the ids of their tensors, without those that have died."""
        while self.died:
            # before it is handled: an exception of the program's may arrive in between
            self._gone(self.died[0].key)
            self.died.popleft()
        return self._columns

    def wants_order(self) -> bool:
        """Return whether there are parameters whose position in the order of execution is unknown
        and may still be learned.
        """
        return self.unordered and self._walks < MAX_WALKS

    def strangers(self, leaves: Sequence[GraphLeaf]) -> list[torch.Tensor]:
        """Return those of these leaves that are parameters and have no column, the sharded ones for
        gathered ones.
        """
        return strangers_among(leaves, self.__contains__, (model for model, _ in self.models()))

    def take_in(self, strangers: list[torch.Tensor], around: DiscoveredObjects) -> None:
        """Give columns to parameters that only the graph of a loss has shown: those of other
        models, and those that no module registers.
        """
        sharded = originals(around.modules)
        left = {
            id(tensor): tensor for tensor in (sharded.get(id(each), each) for each in strangers)
        }
        for number, one in unregistered_in(list(self._models), left):
            self._add_unregistered(one, number)
        if left and not self._models.are_given:
            self._take_models(list(left.values()), around)
            for position, (key, tensor) in enumerate(left.items()):
                if tensor not in self:
                    self._add_unregistered(
                        NamedParameter(
                            tensor, around.names.get(key) or f"unregistered.{position}", ""
                        ),
                        -1,
                    )
        self._changed()

    def _add_unregistered(self, one: NamedParameter, model: int) -> None:
        self._add(one, model)
        self._entries[self._columns[id(one.tensor)]].registered = False

    def order(self, leaves: Sequence[GraphLeaf]) -> None:
        """Learn the order of execution from leaves that are in it."""
        self._walks += 1
        self._num_walks += 1
        if learn_order(self._entries, self._living_columns(), leaves, self._num_walks - 1):
            self._changed()

    def _changed(self) -> None:
        before = dict(zip((p.name for p in self.parameters), self.parameters, strict=True))
        names = [*self._models.names, ""]  # -1: none
        described = tuple(e.described(before.get(e.name), names[e.model]) for e in self._entries)
        if described != self.parameters:
            frozen = [
                e.tensor
                for e, p in zip(self._entries, described, strict=True)
                if e.optimizer is None and not p.trainable
            ]
            unordered = any(p.depth is None and p.trainable for p in described)
            # without a call in between, as above
            self.parameters, self._frozen, self.unordered = described, frozen, unordered
            self.version += 1
