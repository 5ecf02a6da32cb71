"""Steps of one optimizer in groups of equal size, however blocks are cut: how far each weight
moved, and what the loss did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from seismograd.analysis.block_rows import (
    as_list,
    by_optimizer,
    distinct,
    integers,
    numbers,
    updates,
)
from seismograd.analysis.parameter_index import ParameterIndex, is_weight
from seismograd.analysis.step_groups import GroupWeights, StepGroup, StepGroupBatch
from seismograd.schema import (
    AnyArray,
    EventKind,
    FloatArray,
    IntArray,
    Parameter,
    RowBatch,
    Site,
    State,
    StepFlag,
)

SIZE = 10  # steps; the rotating probe comes to each of up to 160 parameters once in so many
_OF_STEP = ("loss", "lr", "grad_norm")
_OF_WEIGHT = ("ratio", "unmoved", "norm")


@dataclass(frozen=True, slots=True)
class _GroupPart:
    """Some steps of a block, or of several."""

    weights: GroupWeights
    steps: IntArray  # (n,)
    columns: dict[str, FloatArray]  # (n,)
    values: dict[str, FloatArray]  # (n, M)

    def __len__(self) -> int:
        return len(self.steps)

    def batch(self, size: int) -> StepGroupBatch:
        """As many tens as it has."""
        num, stop = len(self) // size, len(self) // size * size
        of_step = [self.columns[name][:stop].reshape(num, size) for name in _OF_STEP]
        of_weight = [self.values[name][:stop].reshape(num, size, -1) for name in _OF_WEIGHT]
        return StepGroupBatch(
            self.weights, self.steps[:stop].reshape(num, size), *of_step, *of_weight
        )

    def after(self, start: int) -> _GroupPart:
        """What comes from this step on, as a copy that holds no others in memory."""
        columns = {name: values[start:].copy() for name, values in self.columns.items()}
        return _GroupPart(
            self.weights,
            self.steps[start:].copy(),
            columns,
            {name: each[start:].copy() for name, each in self.values.items()},
        )


@dataclass(slots=True)
class _OpenGroup:
    """A group that is not full yet."""

    number: int = 0
    kind: str = ""
    site: Site | None = None
    parts: list[_GroupPart] = field(default_factory=list[_GroupPart])

    @property
    def length(self) -> int:
        return sum(map(len, self.parts))


@dataclass(slots=True)
class StepGroupCollector:
    """Collects the steps of each optimizer; gives each group once it is full."""

    size: int = SIZE
    _parameter_index: ParameterIndex = field(default_factory=ParameterIndex)
    _parameters: tuple[Parameter, ...] | None = None
    # of the weights below
    _columns: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    _weights: GroupWeights = field(default_factory=lambda: GroupWeights((), np.zeros(0, np.int64)))
    _open: dict[int, _OpenGroup] = field(default_factory=dict[int, _OpenGroup])

    @property
    def num_steps(self) -> int:
        """Steps of the optimizer that has most."""
        return max(
            (each.number * self.size + each.length for each in self._open.values()), default=0
        )

    def read(self, block: RowBatch) -> list[StepGroup]:
        """Take in the next iterations; the groups that are full now, in the order in which they
        became so.
        """
        if block.parameters is not self._parameters:
            self._take_in(block.parameters)
        full = [
            step_group
            for optimizer, rows in by_optimizer(block, updates(block))
            for step_group in self._take(block, optimizer, rows)
        ]
        return (
            full
            if len(self._open) == 1
            else sorted(full, key=lambda step_group: step_group.last_step)
        )

    def rest(self, least: int) -> list[StepGroup]:
        """The groups that will not become full, of at least so many steps."""
        return [
            StepGroup(
                optimizer,
                group.kind,
                group.number,
                group.site,
                self._described(self._joined(group.parts)).batch(group.length),
                0,
            )
            for optimizer, group in self._open.items()
            if group.length >= least
        ]

    def _take_in(self, parameters: tuple[Parameter, ...]) -> None:
        self._parameters = parameters
        columns = np.array(
            [column for column, each in enumerate(parameters) if is_weight(each)], np.int64
        )
        positions = self._parameter_index.positions(
            [parameters[column] for column in as_list(columns)]
        )
        order = np.argsort(positions, kind="stable")
        self._columns, self._weights = columns[order], self._weights_at(positions[order])

    def _weights_at(self, positions: IntArray) -> GroupWeights:
        return GroupWeights(
            tuple(self._parameter_index.parameters[position] for position in as_list(positions)),
            positions,
        )

    def _described(self, part: _GroupPart) -> _GroupPart:
        """The same, with its weights as they were described last."""
        return replace(part, weights=self._weights_at(part.weights.positions))

    def _take(self, block: RowBatch, optimizer: int, rows: IntArray) -> list[StepGroup]:
        group = self._open.setdefault(optimizer, _OpenGroup())
        missing = self.size - group.length
        if len(rows) > missing and any(part.weights is not self._weights for part in group.parts):
            return [
                *self._fill(group, block, optimizer, rows[:missing]),
                *self._fill(group, block, optimizer, rows[missing:]),
            ]
        return self._fill(group, block, optimizer, rows)

    def _fill(
        self, group: _OpenGroup, block: RowBatch, optimizer: int, rows: IntArray
    ) -> list[StepGroup]:
        """Take in rows, which do not go beyond a group that has parts of several sets of
        columns.
        """
        begun = rows[-group.length % self.size :: self.size]
        sites = (
            _sites(block, integers(block.steps, "iteration")[begun], optimizer)
            if len(begun)
            else []
        )
        kind = (
            next((each.kind for each in block.optimizers if each.index == optimizer), "")
            if sites
            else ""
        )
        starts = [
            *([(group.kind, group.site)] if group.parts else []),
            *((kind, site) for site in sites),
        ]
        group.parts.append(self._part(block, rows))
        full: list[StepGroup] = []
        if group.length >= self.size:
            whole = self._joined(group.parts)
            batch = whole.batch(self.size)
            num = len(batch.steps)
            begins = zip(range(num), starts, strict=False)
            full = [
                StepGroup(optimizer, kind, group.number + index, site, batch, index)
                for index, (kind, site) in begins
            ]
            group.number += num
            group.parts = [whole.after(num * self.size)] if len(whole) > num * self.size else []
        if group.parts:
            group.kind, group.site = starts[-1]
        return full

    def _part(self, block: RowBatch, rows: IntArray) -> _GroupPart:
        whole = slice(int(rows[0]), int(rows[-1]) + 1)
        chosen = whole if whole.stop - whole.start == len(rows) else rows
        steps = block.steps[chosen]

        def of_weights(values: AnyArray) -> AnyArray:
            return values[chosen][:, self._columns]

        unknown = (integers(steps, "flags") & int(StepFlag.NO_LOSS)) != 0
        norm = np.asarray(of_weights(block.values["grad_norm"]), np.float64)
        return _GroupPart(
            self._weights,
            integers(steps, "iteration"),
            {
                "loss": np.where(unknown, np.nan, numbers(steps, "loss")),
                "lr": numbers(steps, "lr"),
                "grad_norm": numbers(steps, "grad_norm"),
            },
            {
                "ratio": np.asarray(of_weights(block.values["update_ratio"]), np.float64),
                "unmoved": np.asarray(of_weights(block.values["unmoved"]), np.float64),
                "norm": np.where(of_weights(block.state) >= State.ZERO, norm, np.nan),
            },
        )

    def _joined(self, parts: Sequence[_GroupPart]) -> _GroupPart:
        """Parts that follow each other as one, of all the weights that any of them has."""
        if len(parts) == 1:
            return parts[0]
        weights, first = parts[0].weights, parts[0]
        values = {name: [part.values[name] for part in parts] for name in _OF_WEIGHT}
        if any(part.weights is not weights for part in parts):
            positions = np.array(
                distinct(np.concatenate([part.weights.positions for part in parts])), np.int64
            )
            weights = self._weights_at(positions)
            values = {
                name: [
                    _spread(part.values[name], part.weights.positions, positions) for part in parts
                ]
                for name in _OF_WEIGHT
            }
        return _GroupPart(
            weights,
            np.concatenate([part.steps for part in parts]),
            {
                name: np.concatenate([part.columns[name] for part in parts])
                for name in first.columns
            },
            {name: np.concatenate(each) for name, each in values.items()},
        )


def _spread(values: FloatArray, positions: IntArray, all_positions: IntArray) -> FloatArray:
    """The columns where they lie among all, NaN elsewhere."""
    made = np.full((len(values), len(all_positions)), np.nan)
    made[:, np.searchsorted(all_positions, positions)] = values
    return made


def _sites(block: RowBatch, iterations: IntArray, optimizer: int) -> list[Site | None]:
    """The place of this optimizer's first step in each of these iterations, `None` where it is
    not known.
    """
    events = block.events
    mine = (events["kind"] == EventKind.STEP) & (events["optimizer"] == optimizer)
    at, sites = integers(events, "iteration")[mine], integers(events, "site")[mine]
    found = np.searchsorted(at, iterations)
    return [
        block.sites[site]
        if position < len(at)
        and at[position] == iteration
        and 0 <= (site := int(sites[position])) < len(block.sites)
        else None
        for position, iteration in zip(as_list(found), as_list(iterations), strict=True)
    ]
