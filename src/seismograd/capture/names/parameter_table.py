"""The columns of the record: each tensor's name, position in the order of execution, and
optimizer.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from seismograd.capture.graph.traversal import GraphLeaf
from seismograd.capture.names.discovery import DiscoveredObjects, roots
from seismograd.capture.names.gathered_parameters import flattened_in, originals
from seismograd.capture.names.parameter_groups import parameters_below, setting
from seismograd.capture.names.parameter_names import (
    NamedParameter,
    frozen_in_name,
    hidden,
    loose_name,
    model_name,
    named,
    unique,
)
from seismograd.schema import Parameter

# backwards whose graph is read for the order of execution, after each change of the table
MAX_WALKS = 8


Groups = Sequence[Mapping[str, Any]]


@dataclass(slots=True)
class ColumnEntry:
    """A column in the making. `tensor` is referred to weakly: watching must not keep a model
    alive.
    """

    name: str
    tensor: weakref.ref[torch.Tensor]
    module: str
    aliases: tuple[str, ...]
    model: int  # which of the models holds it, -1 for none
    depth: int | None = None
    optimizer: int | None = None
    group: int | None = None
    activation: str = ""
    compute_dtype: str = ""
    registered: bool = True
    frozen_in_name: bool = False
    branch: int = 0
    walks: int = 0  # bit i: the walk with number i has shown it
    beside: frozenset[int] = frozenset()  # columns on a parallel path

    def described(self, before: Parameter | None) -> Parameter:
        """Return the column as it is now, or as it last was when the tensor is gone."""
        tensor = self.tensor()
        if tensor is None and before is not None:
            return before
        shape = tuple(tensor.shape) if tensor is not None else ()
        return Parameter(
            name=self.name,
            shape=shape,
            dtype=str(tensor.dtype).removeprefix("torch.") if tensor is not None else "",
            numel=tensor.numel() if tensor is not None else 0,
            module=self.module,
            aliases=self.aliases,
            depth=self.depth,
            trainable=bool(tensor.requires_grad) if tensor is not None else False,
            optimizer=self.optimizer,
            group=self.group,
            activation=self.activation,
            compute_dtype=self.compute_dtype,
            registered=self.registered,
            frozen_in_name=self.frozen_in_name,
            branch=self.branch,
            root=self.model,
        )


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """An outermost module that is trained, and the prefix of its parameters' names."""

    module: weakref.ref[torch.nn.Module]
    prefix: str


class ParameterTable:
    """Grows as the script makes models and optimizers; a column never moves or disappears."""

    def __init__(self, models: Sequence[torch.nn.Module] = ()) -> None:
        self._given = [weakref.ref(m) for m in models]
        self._models: list[TrainedModel] = []
        self._entries: list[ColumnEntry] = []
        self._columns: dict[int, int] = {}
        self._held: frozenset[int] = frozenset()  # ids of the optimizers' parameters
        self._by_name: dict[str, int] = {}
        self._walks = 0
        self._num_walks = 0  # ever
        self._frozen: list[weakref.ref[torch.Tensor]] = []  # and no optimizer holds them
        # whether there are trainable parameters whose position in the order of execution is unknown
        self._unordered = False
        self.version = 0  # grows with every change
        self.num_gone = 0
        self.parameters: tuple[Parameter, ...] = ()

    def __contains__(self, tensor: torch.Tensor) -> bool:
        return id(tensor) in self._columns

    def column(self, tensor: torch.Tensor) -> int:
        """Return the column of a tensor; raises `KeyError` when it has none."""
        return self._columns[id(tensor)]

    def owned(self, tensor: torch.Tensor) -> bool:
        """Return whether the tensor has a column, and an optimizer that updates it."""
        column = self._columns.get(id(tensor))
        return column is not None and self._entries[column].optimizer is not None

    def thaw(self, columns: Sequence[int]) -> None:
        """Mark a search for thawed parameters if any of these, which have gradients, was frozen
        when last inspected.
        """
        if not all(self.parameters[column].trainable for column in columns):
            self._walks = 0
            self._changed()

    def look_for_thawed(self) -> None:
        """Inspect parameters that no optimizer holds and that were frozen: they may have been
        thawed.
        """
        if any((tensor := each()) is not None and tensor.requires_grad for each in self._frozen):
            self._walks = 0
            self._changed()

    def models(self) -> Iterator[tuple[torch.nn.Module, str]]:
        """Yield the outermost modules that are trained, and the prefixes of their parameters'
        names.
        """
        for model in self._models:
            module = model.module()
            if module is not None:
                yield module, model.prefix

    def model(self, column: int) -> int:
        """Return which model holds the parameter of a column; -1 for none."""
        return self._entries[column].model

    def unowned(self, models: set[int]) -> list[tuple[torch.Tensor, int]]:
        """Return the trainable parameters that no optimizer holds, with their columns: of these
        models, and of models of which no optimizer holds any.
        """
        found: list[tuple[torch.Tensor, int]] = []
        trained = {entry.model for entry in self._entries if entry.optimizer is not None}
        for column, entry in enumerate(self._entries):
            if entry.optimizer is None and (
                entry.model in models or entry.model not in trained or entry.model == -1
            ):
                tensor = entry.tensor()
                if tensor is not None and tensor.requires_grad:
                    found.append((tensor, column))
        return found

    def learn(
        self, optimizers: Iterable[tuple[int, str, Groups]], around: DiscoveredObjects
    ) -> None:
        """Add the parameters of these (index, name, parameter groups) and of the models that hold
        them, as discovered.
        """
        listed = list(optimizers)
        held = [p for _, _, groups in listed for group in groups for p in setting(group, "params")]
        self._held = frozenset(map(id, held))
        self._take_models(held, around)
        for index, name, groups in listed:
            self._take_groups(index, name, groups, around.names)
        self._walks = 0
        self._changed()

    def _take_models(self, held: list[torch.Tensor], around: DiscoveredObjects) -> None:
        trained = self._trained_models(held, around)
        known = [model.module() for model in self._models]
        fresh = [m for m in trained if not any(m is k for k in known)]
        prefixed = len(trained) > 1 or any(module is not None for module in known)
        taken = [
            model.prefix.removesuffix(".") for model in self._models if model.module() is not None
        ]
        for module, label in zip(
            fresh, unique([model_name(m, around.names) for m in fresh], taken), strict=True
        ):
            self._place(TrainedModel(weakref.ref(module), f"{label}." if prefixed else ""))
        for number, model in enumerate(self._models):
            module = model.module()
            if module is not None:
                in_name = frozen_in_name(module)
                for one in named(module, model.prefix):
                    self._add(one, number)
                    column = self._columns.get(id(one.tensor))
                    if column is not None:
                        self._entries[column].frozen_in_name = id(one.tensor) in in_name

    def _place(self, model: TrainedModel) -> None:
        """Place a model: one that replaces a dead one of its name takes over its columns (a copy
        made anew for each task, say).
        """
        for number, old in enumerate(self._models):
            if old.module() is None and old.prefix == model.prefix:
                self._models[number] = model
                return
        self._models.append(model)

    def _trained_models(
        self, held: list[torch.Tensor], around: DiscoveredObjects
    ) -> list[torch.nn.Module]:
        """Return the outermost modules that hold any of these tensors, in the order of the tensors;
        the given ones come first.
        """
        given = [m for m in (ref() for ref in self._given) if m is not None]
        if self._given:
            return given
        order_of = {id(p): i for i, p in enumerate(held)}
        sharded = originals(around.modules)
        candidates = [
            (m, {id(sharded.get(id(p), p)) for p in parameters_below(m)} & order_of.keys())
            for m in roots(around.modules)
        ]
        covered: set[int] = set()
        found: list[tuple[int, torch.nn.Module]] = []
        for module, holds in sorted(candidates, key=lambda pair: -len(pair[1])):
            if holds - covered:  # a slice of a model holds nothing that the model does not
                covered |= holds
                found.append((min(order_of[key] for key in holds), module))
        return [module for _, module in sorted(found, key=lambda pair: pair[0])]

    def _take_groups(
        self, index: int, name: str, groups: Groups, variables: Mapping[int, str]
    ) -> None:
        for number, group in enumerate(groups):
            given: Sequence[str] = setting(group, "param_names") or ()
            for position, tensor in enumerate(setting(group, "params")):
                if id(tensor) not in self._columns:
                    told = given[position] if position < len(given) else None
                    self._add(
                        NamedParameter(
                            tensor, loose_name(tensor, name, number, position, told, variables), ""
                        ),
                        -1,
                    )
                # None: a lazy parameter that has no shape yet
                column = self._columns.get(id(tensor))
                if column is not None and self._entries[column].optimizer is None:
                    self._entries[column].optimizer, self._entries[column].group = index, number

    def _add(self, one: NamedParameter, model: int) -> None:
        if id(one.tensor) in self._columns or torch.nn.parameter.is_lazy(one.tensor):
            return
        key = id(one.tensor)
        reference = weakref.ref(one.tensor, lambda _, key=key: self._gone(key))
        column = self._by_name.get(one.name)
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
            name = unique([one.name], self._by_name)[0]
            column = len(self._entries)
            self._entries.append(ColumnEntry(name, reference, one.module, one.aliases, model))
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
        self.num_gone += 1
        self._columns.pop(key, None)

    def modules_called(self, kinds: Sequence[str]) -> list[str]:
        """Return the names of the modules of these classes in the trained models, as a script would
        write them.
        """
        found: list[str] = []
        for module, prefix in self.models() if kinds else ():
            everything = cast("Iterator[tuple[str, torch.nn.Module]]", module.named_modules())
            found += [
                f"{prefix}{name}" for name, each in everything if type(each).__name__ in kinds
            ]
        return found

    def wants_order(self) -> bool:
        """Return whether there are parameters whose position in the order of execution is unknown
        and may still be learned.
        """
        return self._unordered and self._walks < MAX_WALKS

    def strangers(self, leaves: Sequence[GraphLeaf]) -> list[torch.Tensor]:
        """Return those of these leaves that are parameters and have no column, the sharded ones for
        gathered ones.
        """
        strange = [
            each.tensor
            for each in leaves
            if isinstance(each.tensor, torch.nn.Parameter) and id(each.tensor) not in self._columns
        ]
        if not strange:
            return []
        sharded = originals(each for model, _ in self.models() for each in model.modules())
        parameters = [
            sharded.get(id(tensor), tensor)
            for tensor in strange
            if not any(id(each) in self._columns for each in flattened_in(tensor))
        ]
        return [tensor for tensor in parameters if id(tensor) not in self._columns]

    def take_in(self, strangers: list[torch.Tensor], around: DiscoveredObjects) -> None:
        """Give columns to parameters that only the graph of a loss has shown: those of other
        models, and those that no module registers.
        """
        sharded = originals(around.modules)
        left = {
            id(tensor): tensor for tensor in (sharded.get(id(each), each) for each in strangers)
        }
        for number, model in enumerate(self._models):
            module = model.module()
            for name, tensor, kind in () if module is None else hidden(module, model.prefix):
                if left.pop(id(tensor), None) is not None:
                    self._add_unregistered(NamedParameter(tensor, name, kind), number)
        if left and not self._given:
            self._take_models(list(left.values()), around)
            for position, (key, tensor) in enumerate(left.items()):
                if key not in self._columns:
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
        """Learn the order of execution from leaves that are in it. A previously frozen one takes
        its place among the others.
        """
        self._walks += 1
        order_of = {id(leaf.tensor): i for i, leaf in enumerate(leaves)}
        reached = sorted(
            (order_of[id(t)], c)
            for c, e in enumerate(self._entries)
            if (t := e.tensor()) is not None and id(t) in order_of
        )
        for position, column in reached:
            self._entries[column].walks |= 1 << self._num_walks
            if leaves[position].beside:
                columns = frozenset(
                    self._columns[each] for each in leaves[position].beside if each in self._columns
                )
                self._entries[column].beside |= columns
        self._num_walks += 1
        num_fresh = sum(self._entries[column].depth is None for _, column in reached)
        if not num_fresh:
            return
        for position, column in reached:
            entry = self._entries[column]
            entry.activation, entry.compute_dtype = (
                leaves[position].activation,
                leaves[position].compute_dtype,
            )
        taken = [depth for e in self._entries if (depth := e.depth) is not None]
        own = [depth for _, column in reached if (depth := self._entries[column].depth) is not None]
        slots = sorted([*own, *range(len(taken), len(taken) + num_fresh)])
        for slot, (_, column) in zip(slots, reached, strict=True):
            self._entries[column].depth = slot
        self._branch()
        self._changed()

    def _branch(self) -> None:
        """Assign each weight to the first branch in which nothing lies on a parallel path, as the
        graphs show or where none has shown both.
        """
        placed = [
            (e.depth, c)
            for c, e in enumerate(self._entries)
            if e.depth is not None and (t := e.tensor()) is not None and t.ndim > 1
        ]
        members: list[set[int]] = []
        walks: list[set[int]] = []  # of the members of each
        for _, column in sorted(placed):
            entry = self._entries[column]
            fitting = (
                branch
                for branch in range(len(members))
                if entry.beside.isdisjoint(members[branch])
                and all(entry.walks & each for each in walks[branch])
            )
            entry.branch = next(fitting, len(members))
            if entry.branch == len(members):
                members.append(set())
                walks.append(set())
            members[entry.branch].add(column)
            walks[entry.branch].add(entry.walks)

    def _changed(self) -> None:
        before = dict(zip((p.name for p in self.parameters), self.parameters, strict=True))
        described = tuple(e.described(before.get(e.name)) for e in self._entries)
        if described != self.parameters:
            self.parameters = described
            self._frozen = [
                e.tensor
                for e, p in zip(self._entries, described, strict=True)
                if e.optimizer is None and not p.trainable
            ]
            self._unordered = any(p.depth is None and p.trainable for p in described)
            self.version += 1
