"""Make one row of the reports of several processes, and learn on the way who holds the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from seismograd.distributed.combine import combine
from seismograd.distributed.combine_plan import CombinePlan, make_plan
from seismograd.distributed.exchanges import Exchange
from seismograd.distributed.ownership import Ownership, RankView
from seismograd.distributed.ownership_facts import OwnershipFacts
from seismograd.schema import RANK_DTYPE, AnyArray, Fact, Note, RankFlag, RowBatch


class RowCombiner:
    """Combines the reports of the processes of a world, row by row.

    Args:
        size: how many processes there are.
        learn: called with facts.
        report: called with notes.
    """

    def __init__(
        self, size: int, learn: Callable[[Fact], None], report: Callable[[Note], None]
    ) -> None:
        self._size = size
        self.ownership, self._facts = Ownership(), OwnershipFacts(learn, report)
        self._plans: dict[object, CombinePlan] = {}  # the last one

    def together(
        self,
        own: RowBatch,
        views: Sequence[RankView],
        left_out: Mapping[int, frozenset[int]],
        exchange: Exchange,
    ) -> RowBatch:
        """Return the row of the whole. `own` is that of rank 0, whose view is the first; `left_out`
        are the columns that the others were asked not to send.
        """
        if self.ownership.learn(views, exchange):
            self._facts.report(self.ownership, int(own.steps["iteration"][0]))
        nothing = frozenset[int]()
        key = (
            self.ownership.version,
            *((v.rank, v.columns.version, left_out.get(v.rank, nothing)) for v in views),
        )
        # Columns and who holds what change seldom, and then for good: the last plan is enough.
        plan = self._plans.get(key)
        if plan is None:
            plan = make_plan(
                tuple(v.rank for v in views),
                tuple(v.columns for v in views),
                tuple(v.sent for v in views),
                self.ownership,
            )
            self._plans = {key: plan}
        reports = tuple(v.report for v in views)
        return combine(plan, reports, own, self._ranks(own, plan, views))

    def _ranks(self, own: RowBatch, plan: CombinePlan, views: Sequence[RankView]) -> AnyArray:
        ranks = np.zeros(self._size, RANK_DTYPE)
        ranks["replica_of"] = -1
        for name in ("loss", "grad_norm", "local_norm", "clip_norm", "clip_coefficient"):
            ranks[name] = np.nan
        for view, replica_of in zip(views, plan.replica_of, strict=True):
            ranks[view.rank] = view.report.rank
            ranks["replica_of"][view.rank] = replica_of
            ranks["weight_checksum"][view.rank] = self.ownership.in_sync(view)
            ranks["flags"][view.rank] |= RankFlag.REPORTED
        ranks["rank"] = np.arange(len(ranks))
        ranks["iteration"] = own.steps["iteration"][0]
        return ranks
