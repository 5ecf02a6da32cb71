"""Find out which processes hold the same ordinary tensor: their replicas of one parameter, or each
an expert or a shard of its own under the same name.

A tensor does not say so, except where its framework has marked it. The evidence is what replicas
have in common: the same weights, at first and after a step, and the same gradient once it has been
reduced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from seismograd.distributed.exchanges import Exchange
from seismograd.distributed.held_tensor import HeldTensor
from seismograd.distributed.marks import COPY, SPLIT
from seismograd.distributed.rank_report import RankColumns, RankReport
from seismograd.distributed.weight_checksum import term
from seismograd.schema import IntArray, Parameter, State

NUM_LOOKED_AT = 32  # rows in which gradients are compared
Offset = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RankView:
    """What one process has told of an iteration: which of its columns have numbers."""

    rank: int
    columns: RankColumns
    sent: IntArray
    report: RankReport


class Ownership:
    """Knows of every name that several processes hold whole which of them hold the same tensor.

    `version` grows when that changes. `separate` has the names of which there are several tensors.
    A shard over only some of the processes is looked at as a tensor of its own: others hold one at
    the same offset, of a replica or of another expert.
    """

    def __init__(self) -> None:
        self.version = 0
        self.separate: frozenset[str] = frozenset()
        self.local: frozenset[str] = frozenset()  # of which the gradients are not reduced
        self.copies: frozenset[str] = frozenset()  # of parameters with another name
        self.is_unsynced = False  # all differ: replicas that nobody keeps together
        self.is_ambiguous = False  # all differ, but the processes exchange activations
        self._held: dict[str, HeldTensor] = {}
        self._shards: dict[str, dict[Offset, HeldTensor]] = {}
        self._num_looked_at = 0

    def learn(self, views: Sequence[RankView], exchange: Exchange) -> bool:
        """Learn from one iteration, and return whether it has changed anything."""
        has_digests = any(view.report.digests for view in views)
        if len(views) < 2 or not (has_digests or self._num_looked_at < NUM_LOOKED_AT):
            return False
        self._num_looked_at += 1
        for each in self._all():
            each.gradients = {}
            if has_digests:
                each.read, each.now = {}, {}
        for view in views:
            self._take(view)
        for each in self._all():
            # What is known to be the same stays so, but for one in the midst of separate ones.
            if not each.is_same or (each.have_differed and self._has_separate_sibling(each)):
                each.decide()
        before = self._judged()
        self._judge(exchange)
        if before == self._judged():
            return False
        self.version += 1
        return True

    def class_of(self, name: str, rank: int, offset: Offset | None = None) -> int:
        """Return the lowest rank that holds the same tensor of this name as this one does, or the
        same shard of it at an offset.
        """
        held = self._find(name, offset) if name in self.separate else None
        return 0 if held is None else held.classes.get(rank, rank)

    def classes_of(self, name: str) -> set[int]:
        """Return what `class_of` returns for the ranks that hold a whole one of this name."""
        held = self._held.get(name)
        return set() if held is None else set(held.classes.values())

    def is_same(self, name: str) -> bool:
        """Return whether all processes are known to hold the same tensor of this name."""
        held = self._held.get(name)
        return name not in self.separate and held is not None and held.is_same

    def whole(self, parameter: Parameter) -> tuple[tuple[int, ...], int]:
        """Return the shape and the number of scalars of all tensors of this name together."""
        held = self._held.get(parameter.name)
        if held is None:  # shards: of each tensor alike
            num = max(each.num_tensors for each in self._shards[parameter.name].values())
            return (num, *parameter.shape), num * parameter.numel
        shapes = [held.shapes[rank] for rank in sorted(self.classes_of(parameter.name))]
        numel = sum(int(np.prod(shape)) for shape in shapes)
        if all(shape == shapes[0] for shape in shapes):
            return (len(shapes), *shapes[0]), numel
        return (numel,), numel

    def forgotten(self) -> tuple[str, ...]:
        """Return the names of separate tensors that began with the same weights, as experts do that
        are made with one seed, and parameters that were left out of the reduction.
        """
        return tuple(
            name
            for name in sorted(self.separate)
            if all(each.began_alike and not each.mark for each in self._named(name))
        )

    def began_alike(self) -> bool:
        """Return whether all processes began with the same weights."""
        return all(len(set(each.at_first.values())) < 2 for each in self._all())

    def num_same(self) -> int:
        """Return how many parameters all processes are known to hold the same of."""
        return sum(each.is_same for each in self._held.values())

    def in_sync(self, view: RankView) -> int:
        """Return the checksum of a process, without what it may differ in: of a separate tensor,
        the checksum of the lowest rank that holds the same counts as zero.
        """
        found = int(view.report.rank["weight_checksum"])
        if not view.report.digests or not self.separate:
            return found
        for column, parameter in enumerate(view.columns.parameters):
            offset = _offset(view.columns, column)
            held = self._find(parameter.name, offset)
            if held is None or parameter.name not in self.separate:
                continue
            first = held.read.get(self.class_of(parameter.name, view.rank, offset))
            if first is not None and int(view.report.digests[0][column]):
                found -= term(column, first)
        return found % 2**64

    def _all(self) -> list[HeldTensor]:
        return [*self._held.values(), *self._sharded()]

    def _sharded(self) -> list[HeldTensor]:
        return [each for offsets in self._shards.values() for each in offsets.values()]

    def _named(self, name: str) -> list[HeldTensor]:
        whole = self._held.get(name)
        return [*([] if whole is None else [whole]), *self._shards.get(name, {}).values()]

    def _find(self, name: str, offset: Offset | None) -> HeldTensor | None:
        return self._held.get(name) if offset is None else self._shards.get(name, {}).get(offset)

    # Evidence -------------------------------------------------------------------------------------

    def _take(self, view: RankView) -> None:
        """Take what one process tells of the tensors that others may hold, too."""
        values, state = view.report.values, view.report.state
        for position, column in enumerate(view.sent.tolist()):
            if not _is_compared(view.columns, column) or state[position] != State.FINITE:
                continue
            self._of(view, column).gradients[view.rank] = (
                float(values["grad_norm"][position]),
                float(values["grad_sum"][position]),
                float(values["grad_max"][position]),
            )
        if not view.report.digests:
            return
        first, last = view.report.digests[0], view.report.digests[-1]
        for column in range(len(view.columns.parameters)):
            if _is_compared(view.columns, column):
                held = self._of(view, column)
                held.at_first.setdefault(view.rank, int(first[column]))
                held.read[view.rank], held.now[view.rank] = int(first[column]), int(last[column])

    def _of(self, view: RankView, column: int) -> HeldTensor:
        parameter, mark = view.columns.parameters[column], view.columns.mark(column)
        offset, shape = _offset(view.columns, column), parameter.shape
        held = self._find(parameter.name, offset)
        if offset is not None:
            shard = view.columns.shards[column]
            assert shard is not None
            shape = (shard.held,)
            if held is None:
                part = replace(parameter, shape=shape, numel=shard.held)
                held = HeldTensor(part, mark)
                self._shards.setdefault(parameter.name, {})[offset] = held
        elif held is None:
            held = self._held[parameter.name] = HeldTensor(parameter, mark)
        held.shapes[view.rank] = shape
        return held

    def _has_separate_sibling(self, held: HeldTensor) -> bool:
        """Return whether another parameter of the same module is a separate one."""
        module = held.parameter.name.rpartition(".")[0]
        return any(name.rpartition(".")[0] == module for name in self.separate)

    def _judge(self, exchange: Exchange) -> None:
        """Decide what tensors that differ are, from all of them."""
        differing = [h for h in self._all() if h.num_tensors > 1]
        is_certain = (
            exchange is Exchange.SHARDS
            or bool(self._shards)
            or any(h.is_same and h.is_reduced for h in self._all())
            or any(h.mark == SPLIT for h in self._held.values())
            or any(len(set(h.shapes.values())) > 1 for h in differing)
        )
        shows = is_certain or exchange is not Exchange.NOTHING
        self.is_unsynced = not shows and any(h.have_differed for h in differing)
        self.is_ambiguous = bool(differing) and shows and not is_certain
        self.local = frozenset(h.parameter.name for h in self._held.values() if h.is_local)
        self.copies = frozenset(h.parameter.name for h in self._held.values() if h.mark == COPY)
        self.separate = frozenset(h.parameter.name for h in differing if shows and h.mark != COPY)

    def _judged(self) -> tuple[object, ...]:
        classes = {
            name: [dict(each.classes) for each in self._named(name)] for name in self.separate
        }
        return self.separate, self.local, self.is_unsynced, self.is_ambiguous, classes


def _is_compared(columns: RankColumns, column: int) -> bool:
    return columns.is_plain(column) or columns.is_apart(column)


def _offset(columns: RankColumns, column: int) -> Offset | None:
    """Return where a shard begins that others may hold, too; `None` for anything else."""
    shard = columns.shards[column]
    return shard.offset if shard is not None and columns.is_apart(column) else None
