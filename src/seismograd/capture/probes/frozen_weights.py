"""Detect models in which the weights that are as an initialization leaves them are all frozen, or
those of adapters.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import torch

from seismograd.capture.loop.event_log import OWN_FRAMES, EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.parameter_names import NamedParameter, named
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.probes.frozen_adapters import frozen_adapters
from seismograd.schema import FactKind
from seismograd.tensors.freed_memory import PLAIN_TYPES, is_readable
from seismograd.tensors.isolation import without_user_modes

MIN_SCALARS, MAX_SCALARS = 128, 4096  # of a weight
MAX_WEIGHTS = 64  # of a model
# largest magnitude over standard deviation: 1.73 in a uniform distribution, 3 to 4 in a normal one
UNIFORM, NOT_UNIFORM = sqrt(3), 2.2


MIN_SHARE = 0.5  # of a model that is frozen
MIN_NORMS = 2


@dataclass(slots=True)
class FrozenWeights:
    """Looks once at each model, at the first backward that knows it."""

    facts: Facts
    log: EventLog
    parameter_table: ParameterTable
    version: int = -1
    _seen: list[weakref.ref[torch.nn.Module]] = field(
        default_factory=list["weakref.ref[torch.nn.Module]"]
    )

    def backward_begins(self, _: ThreadState, *__: object) -> None:
        """A backward begins."""
        if self.version == self.parameter_table.version:
            return
        self.version = self.parameter_table.version
        for model, prefix in self.parameter_table.models():
            if not any(each() is model for each in self._seen):
                self._seen.append(weakref.ref(model))
                parameters = named(model, prefix)
                if not self._look(parameters):
                    self._look_at_trunk(parameters)
                self._look_at_adapters(model, parameters)

    def _look(self, parameters: list[NamedParameter]) -> bool:
        trained = [each for each in parameters if each.tensor.requires_grad]
        frozen = [p for p in parameters if not p.tensor.requires_grad and p.tensor.ndim > 1]
        weights = [each for each in trained if each.tensor.ndim > 1]
        norms_only = all("Norm" in each.module for each in trained)
        if not trained or not frozen or not (norms_only or weights):
            return False
        with without_user_modes():
            if not all(_spread(p) > NOT_UNIFORM for p in weights[:MAX_WEIGHTS]):
                return False
            fresh = [each for each in frozen[:MAX_WEIGHTS] if _is_fresh(each)]
        table = self.parameter_table
        is_found = bool(fresh) and fresh[-1].tensor in table
        if is_found:
            self.facts.report(
                FactKind.FROZEN_FRESH,
                site=self.log.call_sites.here(OWN_FRAMES),
                parameters=[each.name for each in fresh],
                num=len(fresh),
                trains=trained[0].name,
                norms_only=int(norms_only),
                name=fresh[-1].name.rpartition(".")[0],
                model=table.parameters[table.column(fresh[-1].tensor)].model,
            )
        return is_found

    def _look_at_trunk(self, parameters: list[NamedParameter]) -> None:
        """Look whether most of a model is frozen as it was initialized."""
        trained = [each for each in parameters if each.tensor.requires_grad]
        frozen = [each for each in parameters if not each.tensor.requires_grad]
        weights = [each for each in frozen if each.tensor.ndim > 1]
        num = sum(each.tensor.numel() for each in frozen)
        share = num / max(1, num + sum(each.tensor.numel() for each in trained))
        table = self.parameter_table
        if not trained or share < MIN_SHARE or not weights or weights[0].tensor not in table:
            return
        with without_user_modes():
            if not _is_as_initialized(weights, frozen):
                return
        self.facts.report(
            FactKind.FROZEN_TRUNK,
            site=self.log.call_sites.here(OWN_FRAMES),
            parameters=[each.name for each in weights[:MAX_WEIGHTS]],
            num=len(weights),
            share=share,
            trains=trained[0].name,
            model=table.parameters[table.column(weights[0].tensor)].model,
        )

    def _look_at_adapters(self, model: torch.nn.Module, parameters: list[NamedParameter]) -> None:
        adapters, table = frozen_adapters(model, parameters), self.parameter_table
        if adapters is not None and (first := adapters.parameters[0]).tensor in table:
            self.facts.report(
                FactKind.FROZEN_ADAPTERS,
                site=self.log.call_sites.here(OWN_FRAMES),
                # where others of these names were there before, the record has other names
                parameters=[
                    table.parameters[table.column(each.tensor)].name
                    if each.tensor in table
                    else each.name
                    for each in adapters.parameters[:MAX_WEIGHTS]
                ],
                num=len(adapters.parameters),
                for_inference=int(adapters.for_inference),
                certain=int(adapters.is_certain),
                model=table.parameters[table.column(first.tensor)].model,
            )


def _is_as_initialized(weights: list[NamedParameter], frozen: list[NamedParameter]) -> bool:
    """Return whether these weights are as an initialization leaves them: most are uniformly
    distributed, or the normalization layers among them still have ones and zeros only.
    """
    norms = [p for p in frozen if "Norm" in p.module and p.tensor.ndim == 1]
    scales = [p for p in norms if p.name.endswith("weight")]
    if len(scales) >= MIN_NORMS and all(_is_unchanged(p) for p in norms[: 2 * MAX_WEIGHTS]):
        return True
    known = [p for p in weights[:MAX_WEIGHTS] if _spread(p) > 0]
    return 2 * sum(_is_fresh(p) for p in known) > len(known)


def _is_unchanged(parameter: NamedParameter) -> bool:
    """Return whether a scale of a normalization layer is one, or its shift zero."""
    tensor: Any = parameter.tensor
    if type(tensor) not in PLAIN_TYPES or not is_readable(tensor):
        return False
    return bool((tensor.detach() == float(parameter.name.endswith("weight"))).all())


def _is_fresh(parameter: NamedParameter) -> bool:
    """Return whether a weight is uniformly distributed, as torch initializes layers; training pulls
    some scalars far out.
    """
    rounding = 0.02 + 1 / sqrt(min(parameter.tensor.numel(), MAX_SCALARS))
    return abs(_spread(parameter) / UNIFORM - 1) < rounding


def _spread(parameter: NamedParameter) -> float:
    """Return the largest magnitude over the standard deviation; 0 where it cannot be known, or
    where the mean is not zero.
    """
    weight: Any = parameter.tensor
    if (
        type(weight) not in PLAIN_TYPES
        or weight.numel() < MIN_SCALARS
        or not weight.is_floating_point()
        or not is_readable(weight)
    ):
        return 0.0
    scalars = weight.detach().reshape(-1)[:MAX_SCALARS].double()
    deviation = float(scalars.std())
    if abs(float(scalars.mean())) * sqrt(len(scalars)) > 4 * deviation or not deviation > 0:
        return 0.0
    return float(scalars.abs().max()) / deviation
