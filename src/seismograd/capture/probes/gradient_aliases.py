"""Detect optimizers of the script's own whose momentum is the very memory of the gradient."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch.cuda import is_initialized

from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.look_schedule import is_looked_at
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.names.parameter_groups import attribute
from seismograd.schema import FactKind
from seismograd.tensors.cuda_graph import is_capturing
from seismograd.tensors.freed_memory import PLAIN_TYPES

MAX_WEIGHTS = 16  # of an optimizer, the first ones
# what such states are called that are kept from step to step
KEPT = re.compile(r"buf|mom|avg|average|veloc|ema|^m$|^v$", re.IGNORECASE)


@dataclass(slots=True)
class GradientAliases:
    """Looks at the first steps of an optimizer that is not torch's own, as they begin."""

    facts: Facts
    registry: OptimizerRegistry
    _times: Counter[int] = field(default_factory=Counter[int])  # by optimizer

    def step_begins(self, _: ThreadState, optimizer: Any, *__: object) -> None:
        """Look at a step that begins, with the gradients of its backward."""
        window = self.registry.known(optimizer)
        state: Any = attribute(optimizer, "state")
        if (
            window is None
            or type(optimizer).__module__.startswith("torch.")
            or not isinstance(state, dict)
            or (is_initialized() and is_capturing())
        ):
            return
        held = window.held()[:MAX_WEIGHTS]
        found = [(p, key) for p in held if (key := _alias(p, cast("dict[Any, Any]", state)))]
        if not found:
            self._times[window.index] = 0
            return
        self._times[window.index] += 1
        if is_looked_at(self._times[window.index]):
            table = self.registry.parameter_table
            self.facts.report(
                FactKind.GRADIENT_ALIAS,
                site=-1 if window.step_heard is None else window.step_heard.site,
                optimizer=window.index,
                parameters=[table.parameters[table.column(p)].name for p, _ in found if p in table],
                name=window.name,
                entry=found[0][1],
                times=self._times[window.index],
            )


def _alias(parameter: torch.Tensor, state: dict[Any, Any]) -> str:
    """Return the name of the entry that lies where the gradient lies; empty for none."""
    gradient = parameter.grad
    # a defaultdict would make an entry for what is only asked for
    entry: Any = dict.get(state, parameter)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if gradient is None or not _is_plain(gradient) or not isinstance(entry, dict):
        return ""
    for key, value in cast("dict[Any, Any]", entry).items():
        if (
            isinstance(key, str)
            and _is_plain(value)
            and value.shape == gradient.shape
            and value.data_ptr() == gradient.data_ptr() != 0
            and KEPT.search(key)
        ):
            return key
    return ""


def _is_plain(value: Any) -> bool:
    return (
        type(value) in PLAIN_TYPES
        and value.layout is torch.strided
        and not value.is_meta
        and value.numel() > 0
    )
