"""Read the settings of parameter groups, and report those that are new."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from operator import is_
from typing import Any, cast

from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.capture.names.parameter_groups import groups_of, setting
from seismograd.capture.names.zero_optimizer import kind_of
from seismograd.schema import SAMPLE_EVERY, FactKind

MAX_GROUPS = 64
DECOUPLED = ("AdamW", "Lion", "SGDW", "Muon")

Settings = tuple[float, ...]
NAMES = ("weight_decay", "momentum", "eps", "beta1", "beta2", "decoupled", "fused")
KEYS = ("weight_decay", "momentum", "eps", "betas", "decoupled_weight_decay", "fused")


@dataclass(slots=True)
class GroupSettings:
    """Reads the settings at the first steps of an optimizer and at every tenth."""

    facts: Facts
    registry: OptimizerRegistry
    _known: dict[tuple[int, int], Settings] = field(
        default_factory=dict[tuple[int, int], "tuple[float, ...]"]
    )
    # what a group had by `KEYS` when they were read
    _read: dict[tuple[int, int], list[object]] = field(
        default_factory=dict[tuple[int, int], "list[object]"]
    )

    def forget(self) -> None:
        """Read all of them the next time, even where they are the very same."""
        self._read.clear()

    def step_begins(self, _: ThreadState, optimizer: Any, *__: object) -> None:
        """Compare the settings with those last reported."""
        window = self.registry.known(optimizer)
        if window is None or (window.num_steps > 1 and window.num_steps % SAMPLE_EVERY):
            return
        for number, group in enumerate(groups_of(optimizer)[:MAX_GROUPS]):
            key = window.index, number
            read: list[object] = list(map(group.get, KEYS)) if type(group) is dict else []  # pyright: ignore
            # the very same, as nearly always: the numbers need not be looked at
            if read and key in self._read and all(map(is_, read, self._read[key])):
                continue
            settings = _settings(optimizer, group)
            if self._known.get(key, ()) == settings:
                self._read[key] = read
                continue
            if not self.facts.has_room(FactKind.GROUP_SETTINGS):
                continue
            self._known[key] = settings
            values: dict[str, Any] = {
                name: math.nan if value < 0 else value
                for name, value in zip(NAMES, settings, strict=True)
            }
            self.facts.report(
                FactKind.GROUP_SETTINGS,
                site=-1 if window.step_heard is None else window.step_heard.site,
                optimizer=window.index,
                group=number,
                class_name=kind_of(optimizer),
                **values,
            )


def _settings(optimizer: Any, group: Any) -> Settings:
    """Return the settings in the order of `NAMES`; -1 where it has none, or none that can be
    read without waiting."""
    given = setting(group, "betas")
    betas = cast("tuple[object, ...]", given) if type(given) is tuple else ()
    first, second = betas if len(betas) == 2 else (None, None)
    decoupled = setting(group, "decoupled_weight_decay")
    if decoupled is None:
        decoupled = kind_of(optimizer) in DECOUPLED
    return (
        _number(setting(group, "weight_decay")),
        _number(setting(group, "momentum")),
        _number(setting(group, "eps")),
        _number(first),
        _number(second),
        float(bool(decoupled)),
        float(bool(setting(group, "fused"))),
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else -1.0
