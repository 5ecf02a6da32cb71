"""The outermost modules that are trained, and the prefixes of their parameters' names."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from seismograd.capture.names.discovery import DiscoveredObjects, roots
from seismograd.capture.names.gathered_parameters import originals
from seismograd.capture.names.parameter_groups import num_parameters_below, parameters_below
from seismograd.capture.names.parameter_names import model_name, unique, variable_of


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """An outermost module that is trained, the prefix of its parameters' names, and its own name in
    the script, empty where it has none.
    """

    module: weakref.ref[torch.nn.Module]
    prefix: str
    name: str


class TrainedModels:
    """The models that `watch` was given, or those that hold the parameters of the optimizers.

    A model's number never changes; a module that replaces it under the same name gets it.
    """

    def __init__(self, given: Sequence[torch.nn.Module]) -> None:
        self._given = [weakref.ref(module) for module in given]
        self._models: list[TrainedModel] = []
        self._num_held: dict[int, int] = {}  # parameters, by the number of the model

    def __iter__(self) -> Iterator[tuple[int, torch.nn.Module, str]]:
        """Yield the number, module and prefix of each model that is still alive."""
        for number, model in enumerate(self._models):
            module = model.module()
            if module is not None:
                yield number, module, model.prefix

    def changed(self) -> Iterator[tuple[int, torch.nn.Module, str]]:
        """Yield the models that hold another number of parameters than when this was last asked."""
        for number, module, prefix in self:
            num = num_parameters_below(module)
            if self._num_held.get(number) != num:
                self._num_held[number] = num
                yield number, module, prefix

    @property
    def names(self) -> list[str]:
        """Return the name of each model in the script, by its number."""
        return [model.name for model in self._models]

    @property
    def are_given(self) -> bool:
        """Return whether there are no other models than those that `watch` was given."""
        return bool(self._given)

    def find(self, held: list[torch.Tensor], around: DiscoveredObjects) -> None:
        """Add the models that hold any of these tensors, as discovered."""
        trained = self._outermost(held, around)
        known = [model.module() for model in self._models]
        fresh = [m for m in trained if not any(m is k for k in known)]
        prefixed = len(trained) > 1 or any(module is not None for module in known)
        taken = [
            model.prefix.removesuffix(".") for model in self._models if model.module() is not None
        ]
        for module, label in zip(
            fresh, unique([model_name(m, around.names) for m in fresh], taken), strict=True
        ):
            prefix, name = f"{label}." if prefixed else "", variable_of(module, around.names)
            self._place(TrainedModel(weakref.ref(module), prefix, name))

    def _place(self, model: TrainedModel) -> None:
        """Place a model: one that replaces a dead one of its name takes over its columns (a fresh
        copy for each task, for example).
        """
        for number, old in enumerate(self._models):
            if old.module() is None and old.prefix == model.prefix:
                self._models[number] = model
                return
        self._models.append(model)

    def _outermost(
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
