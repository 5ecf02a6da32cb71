"""Make the rows of the merged record: those that rank 0 would have made if all reports had come.

Rows of which all processes had reported, as before they joined, stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from seismograd.distributed.ownership import RankView
from seismograd.distributed.row_combiner import RowCombiner
from seismograd.merging.kept_reports import KeptReports
from seismograd.schema import Fact, Note, Parameter, RowBatch, StateArray

World = Mapping[int, KeptReports]


class MergedRows:
    """Combines rows of rank 0 with what was kept.

    Args:
        worlds: what was kept, of each world by rank.
        learn: called with facts.
        report: called with notes.
    """

    def __init__(
        self,
        worlds: Iterable[World],
        learn: Callable[[Fact], None],
        report: Callable[[Note], None],
    ) -> None:
        self._places: dict[int, tuple[World, RowCombiner, int]] = {}
        self.num_missing: dict[int, int] = {}  # by rank: iterations that it has not reported
        self.first_missing: dict[int, int] = {}
        for world in worlds:
            combiner = RowCombiner(world[0].size, learn, report)
            # Of steps that were made once more after a resumption the later ones count.
            for index in world[0].indices:
                self._places[world[0].step_of(index)] = (world, combiner, index)

    @property
    def steps(self) -> frozenset[int]:
        """Return the steps whose rows are made anew."""
        return frozenset(self._places)

    def rows(self, block: RowBatch) -> Iterator[RowBatch]:
        """Yield the rows of a block of the record of rank 0, in batches of one or more."""
        start = 0
        for row, step in enumerate(block.steps["iteration"].tolist()):
            place = self._places.get(step)
            if place is None:
                continue
            if row > start:
                yield block.rows(start, row)
            yield self._combined(block.rows(row, row + 1), *place)
            start = row + 1
        if start < len(block):
            yield block.rows(start, len(block))

    def _combined(self, own: RowBatch, world: World, combiner: RowCombiner, index: int) -> RowBatch:
        step = int(own.steps["iteration"][0])
        views: list[RankView] = []
        left_out: dict[int, frozenset[int]] = {}
        for rank in range(world[0].size):
            found = world[rank].view(index) if rank in world else None
            if found is None:
                self.num_missing[rank] = self.num_missing.get(rank, 0) + 1
                self.first_missing.setdefault(rank, step)
            else:
                views.append(found[0])
                left_out[rank] = found[1]
        row = _of_rank_0(own, views[0].columns.parameters)
        return combiner.together(row, views, left_out, world[0].exchange(index))


def _of_rank_0(row: RowBatch, parameters: tuple[Parameter, ...]) -> RowBatch:
    """Return a recorded row with only those columns that rank 0 holds something of, as its session
    handed it on; their optimizers are numbered as in the record.
    """
    recorded = {each.name: (column, each) for column, each in enumerate(row.parameters)}
    state: StateArray = np.zeros((1, len(parameters)), row.state.dtype)
    own: list[Parameter] = []
    for column, parameter in enumerate(parameters):
        known = recorded.get(parameter.name)
        if known is not None:
            state[0, column] = row.state[0, known[0]]
            parameter = replace(parameter, optimizer=known[1].optimizer)
        own.append(parameter)
    return replace(row, parameters=tuple(own), state=state)
