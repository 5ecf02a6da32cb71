"""Steps of one optimizer in groups of equal size, however blocks are cut: how far each weight moved, and what the loss did.

Shapes: n steps of a group, M weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from seismograd.rules.roster import Roster
from seismograd.rules.rows import as_list, by_optimizer, integers, numbers, site_of, statistic, updates
from seismograd.schema import Block, EventKind, FloatArray, IntArray, Parameter, State, StateArray, StepFlag

SIZE = 10  # steps; the rotating probe comes to each parameter about once in so many


def is_weight(parameter: Parameter) -> bool:
    """Whether it has two dimensions or more: a bias that begins at zero moves by many times its own norm, which says nothing."""
    return sum(size > 1 for size in parameter.shape) >= 2


@dataclass(frozen=True, slots=True)
class Ten:
    """Consecutive steps of one optimizer with a new gradient, none of them skipped."""

    optimizer: int
    kind: str  # class of the optimizer
    number: int  # how many came before it
    steps: IntArray  # iterations  # (n,)
    loss: FloatArray  # NaN: not known, or not a number  # (n,)
    lr: FloatArray  # (n,)
    grad_norm: FloatArray  # (n,)
    weights: tuple[Parameter, ...]  # (M,)
    ratio: FloatArray  # norm of the update / norm of the weight; NaN: not probed  # (n, M)
    unmoved: FloatArray  # (n, M)
    norm: FloatArray  # of the gradient; NaN: none  # (n, M)
    where: str  # file:line of the first step

    @property
    def loss_level(self) -> float:
        """Median of the finite losses, NaN without any."""
        return median(self.loss)

    @property
    def loss_noise(self) -> float:
        """How far losses lie from their median, as a share of it: that of a normal distribution with the same quartiles."""
        known = self.loss[np.isfinite(self.loss)]
        if not len(known):
            return 0.0
        level = float(np.median(known))
        return 1.4826 * float(np.median(np.abs(known - level))) / abs(level) if level else 0.0

    def ratios(self) -> FloatArray:
        """The median ratio of each weight over its probes; NaN: none  # (M,)."""
        return column_medians(self.ratio)


def median(values: FloatArray) -> float:
    """The median of the finite ones, NaN without any."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")


def column_medians(values: FloatArray) -> FloatArray:
    """The median of the finite values in each column, NaN where there is none."""
    finite = np.isfinite(values)
    num = finite.sum(axis=0)
    ordered = np.sort(np.where(finite, values, np.nan), axis=0)  # NaN comes last
    column: IntArray = np.arange(values.shape[1], dtype=np.int64)
    return (ordered[np.maximum((num - 1) // 2, 0), column] + ordered[np.minimum(num // 2, len(values) - 1), column]) / 2


@dataclass(slots=True)
class _Open:
    """A group that is not full yet."""

    number: int = 0
    where: str = ""
    kind: str = ""
    parts: list[_Part] = field(default_factory=list["_Part"])

    @property
    def length(self) -> int:
        return sum(len(part.steps) for part in self.parts)


@dataclass(frozen=True, slots=True)
class _Part:
    steps: IntArray
    columns: dict[str, FloatArray]  # (n,)
    places: IntArray  # numbers of the weights in the roster
    values: dict[str, FloatArray]  # (n, M of this block)


@dataclass(slots=True)
class Tens:
    """Collects the steps of each optimizer; gives each group once it is full."""

    size: int = SIZE
    _roster: Roster = field(default_factory=Roster)
    _parameters: tuple[Parameter, ...] | None = None
    _columns: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    _places: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    _open: dict[int, _Open] = field(default_factory=dict[int, _Open])

    @property
    def num_steps(self) -> int:
        """Steps of the optimizer that has most."""
        return max((each.number * self.size + each.length for each in self._open.values()), default=0)

    def add(self, block: Block) -> list[Ten]:
        """Take in the next iterations; the groups that are full now, in the order in which they became so."""
        if block.parameters is not self._parameters:
            self._parameters = block.parameters
            self._columns = np.array([column for column, each in enumerate(block.parameters) if is_weight(each)], np.int64)
            self._places = self._roster.places([block.parameters[column] for column in as_list(self._columns)])
        full = [ten for optimizer, rows in by_optimizer(block, updates(block)) for ten in self._take(block, optimizer, rows)]
        return sorted(full, key=lambda ten: int(ten.steps[-1]))

    def rest(self, least: int) -> list[Ten]:
        """The groups that will not become full, of at least so many steps."""
        return [self._close(optimizer, group) for optimizer, group in self._open.items() if group.length >= least]

    def _take(self, block: Block, optimizer: int, rows: IntArray) -> Iterator[Ten]:
        group = self._open.setdefault(optimizer, _Open())
        while len(rows):
            if not group.parts:
                group.where = site_of(block, EventKind.STEP, int(integers(block.steps, "iteration")[rows[0]]), optimizer)
                group.kind = next((each.kind for each in block.optimizers if each.index == optimizer), "")
            now, rows = rows[: self.size - group.length], rows[self.size - group.length :]
            group.parts.append(self._part(block, now))
            if group.length == self.size:
                yield self._close(optimizer, group)
                group.number, group.parts = group.number + 1, []

    def _part(self, block: Block, rows: IntArray) -> _Part:
        steps = block.steps[rows]
        unknown = (integers(steps, "flags") & int(StepFlag.NO_LOSS)) != 0
        norm = _known(statistic(block, "grad_norm")[rows][:, self._columns], block.state[rows][:, self._columns])
        return _Part(
            integers(steps, "iteration"),
            {"loss": np.where(unknown, np.nan, numbers(steps, "loss")), "lr": numbers(steps, "lr"), "norm": numbers(steps, "grad_norm")},
            self._places,
            {
                "ratio": statistic(block, "update_ratio")[rows][:, self._columns],
                "unmoved": statistic(block, "unmoved")[rows][:, self._columns],
                "norm": norm,
            },
        )

    def _close(self, optimizer: int, group: _Open) -> Ten:
        width = len(self._roster.parameters)
        used = np.unique(np.concatenate([part.places for part in group.parts]))

        def column(name: str) -> FloatArray:
            return np.concatenate([part.columns[name] for part in group.parts])

        def values(name: str) -> FloatArray:
            made = np.full((group.length, width), np.nan)
            row = 0
            for part in group.parts:
                made[row : row + len(part.steps), part.places] = part.values[name]
                row += len(part.steps)
            return made[:, used]

        return Ten(
            optimizer,
            group.kind,
            group.number,
            np.concatenate([part.steps for part in group.parts]),
            column("loss"),
            column("lr"),
            column("norm"),
            tuple(self._roster.parameters[place] for place in as_list(used)),
            values("ratio"),
            values("unmoved"),
            values("norm"),
            group.where,
        )


def _known(norm: FloatArray, state: StateArray) -> FloatArray:
    """The norms with NaN where there is no gradient."""
    return np.where(state >= State.ZERO, norm, np.nan)
