"""Detect loads of a state that is no copy: its tensors are the parameters themselves, so that it
has changed with each step since it was kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch

from seismograd.capture.loop.event_log import OWN_FRAMES, EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.names.parameter_names import walk
from seismograd.capture.source.kept_references import kept_references
from seismograd.schema import FactKind
from seismograd.tensors.freed_memory import PLAIN_TYPES

MAX_LOADS = 64  # that are looked at
MAX_NAMES = 64


@dataclass(slots=True)
class LoadedReferences:
    """Hears `load_state_dict` of modules that are trained, after the first step."""

    facts: Facts
    log: EventLog
    registry: OptimizerRegistry
    _num_looks: int = 0
    _is_told: bool = False

    def state_loads(self, _: ThreadState, owner: Any, state: object) -> None:
        """A module is about to be given weights."""
        if (
            self._is_told
            or self._num_looks >= MAX_LOADS
            or not isinstance(owner, torch.nn.Module)
            or not isinstance(state, Mapping)
            or not any(window.num_steps for window in self.registry)
        ):
            return
        self._num_looks += 1
        table, given = self.registry.parameter_table, cast("Mapping[str, Any]", state)
        held = [(name, tensor) for name, tensor, _ in walk(owner)]
        trained = [tensor for _, tensor in held if table.owned(tensor)]
        if not trained or not all(_is_itself(tensor, given.get(name)) for name, tensor in held):
            return
        site = self.log.call_sites.here(OWN_FRAMES)
        at = self.log.call_sites.sites[site] if site >= 0 else None
        kept = None if at is None else kept_references(at.file, at.line)
        if kept is None:
            return
        self._is_told = True
        names = [table.parameters[table.column(p)].name for p in trained if p in table]
        self.facts.report(
            FactKind.LOADED_ITSELF,
            site=site,
            parameters=names[:MAX_NAMES],
            num=len(trained),
            model=kept.model,
            kept_at=kept.place,
            kept=kept.text,
        )


def _is_itself(parameter: torch.Tensor, given: Any) -> bool:
    """Return whether a tensor is a view of all of a parameter's memory, or the parameter."""
    return (
        type(parameter) in PLAIN_TYPES
        and type(given) in PLAIN_TYPES
        and parameter.layout is torch.strided
        and given.layout is torch.strided
        and not parameter.is_meta
        and parameter.numel() > 0
        and given.shape == parameter.shape
        and given.data_ptr() == parameter.data_ptr() != 0
    )
