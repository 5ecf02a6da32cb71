"""Who holds the same follows from weights and gradients, whatever the processes are called."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.distributed.combine_plan import CombinePlan, make_plan
from seismograd.distributed.exchanges import Exchange
from seismograd.distributed.ownership import Ownership, RankView
from seismograd.distributed.rank_report import RankColumns, RankReport
from seismograd.distributed.weight_checksum import is_constant
from seismograd.schema import RANK_DTYPE, STATISTICS, STEP_DTYPE, Parameter, State
from seismograd.tensors.shards import PLAIN, LocalShard

NONE = Exchange.NOTHING
NAMES = ("dense.weight", "middle.weight")


def view(
    rank: int,
    weights: tuple[int, int],
    gradients: tuple[float, float],
    after: tuple[int, int],
    shards: tuple[LocalShard, LocalShard] = (PLAIN, PLAIN),
) -> RankView:
    """What a process tells of two parameters in its first iteration."""
    parameters = tuple(Parameter(name, (8, 8), "float32", 64) for name in NAMES)
    columns = RankColumns(0, parameters, shards)
    norms = np.array(gradients)
    values = {s.name: norms.copy() for s in STATISTICS if not s.sampled}
    values["grad_sum"], values["grad_max"] = 0.3 * norms, 0.4 * norms
    entry = np.zeros((), RANK_DTYPE)
    entry["rank"] = rank
    report = RankReport(
        0,
        0,
        0,
        np.zeros(1, STEP_DTYPE)[0],
        entry,
        np.full(2, State.FINITE, np.uint8),
        values,
        {},
        np.empty(0),
        math.nan,
        (),
        tuple(np.array(each, np.uint64) for each in (weights, after)),
    )
    sent = columns.sent()
    return RankView(rank, columns, sent, RankReport.from_bytes(report.to_bytes(), columns, sent))


@given(st.lists(st.integers(0, 3), min_size=2, max_size=8))
def test_those_with_the_same_weights_hold_the_same_expert(experts: list[int]) -> None:
    views = [
        view(rank, (77, 1001 + each), (2.0, 3.0 + each), (78, 2001 + each))
        for rank, each in enumerate(experts)
    ]
    ownership = Ownership()
    ownership.learn(views, Exchange.NOTHING)
    assert ownership.is_same(NAMES[0])
    assert ownership.separate == (frozenset(NAMES[1:]) if len(set(experts)) > 1 else frozenset())
    for rank, each in enumerate(experts):
        if ownership.separate:
            assert ownership.class_of(NAMES[1], rank) == experts.index(each)
    assert not ownership.is_unsynced
    assert ownership.forgotten() == ()


def sharded_views(experts: Sequence[int]) -> list[RankView]:
    """Of processes two by two: the first parameter is sharded over all of them, the second over
    those that have the same expert, of which the first begins with the weights 1001.
    """
    views: list[RankView] = []
    size = 8 // len(experts)
    for rank, expert in enumerate(experts):
        number = experts[:rank].count(expert)
        over_all = LocalShard("shard", True, size * 8, (rank * size, 0))
        over_some = LocalShard("shard", True, 32, (number * 4, 0), some=True)
        weights, norm = 1001 + 10 * expert + number, 3.0 + expert + 0.1 * number
        views.append(
            view(rank, (70, weights), (2.0, norm), (78, 5 * weights), (over_all, over_some))
        )
    return views


def plan_of(views: Sequence[RankView], ownership: Ownership) -> CombinePlan:
    ranks, columns, sent = zip(*((v.rank, v.columns, v.sent) for v in views), strict=True)
    return make_plan(ranks, columns, sent, ownership)


@pytest.mark.parametrize("experts", [(0, 1, 0, 1), (0, 0, 1, 1)])
def test_experts_that_are_sharded_over_some_processes_each_count(experts: tuple[int, ...]) -> None:
    views, ownership = sharded_views(experts), Ownership()
    ownership.learn(views, Exchange.SHARDS)
    assert ownership.separate == {NAMES[1]}
    plan = plan_of(views, ownership)
    assert [p.shape for p in plan.parameters] == [(8, 8), (2, 8, 8)]
    assert [p.numel for p in plan.parameters] == [64, 128]
    assert all(share.counts.all() for share in plan.shares)
    assert plan.complete.all()
    assert plan_of(views[:3], ownership).complete.tolist() == [False, False]


def test_replicas_that_are_sharded_over_some_processes_count_once() -> None:
    """As fully_shard leaves what tensor parallelism does not cut."""
    views = [
        view(rank, (70, 80 + rank // 2), (2.0, 3.0 + rank // 2), (78, 90 + rank // 2), shards)
        for rank in range(4)
        for shards in [
            (
                LocalShard("shard", True, 16, (rank * 2, 0)),
                LocalShard("shard", True, 32, (rank // 2 * 4, 0), some=True),
            )
        ]
    ]
    ownership = Ownership()
    ownership.learn(views, Exchange.SHARDS)
    assert not ownership.separate
    plan = plan_of(views, ownership)
    assert [share.counts.tolist() for share in plan.shares] == [
        [True, rank in (0, 2)] for rank in range(4)
    ]
    assert plan.complete.all()


@pytest.mark.parametrize("exchange", Exchange)
def test_where_nothing_is_the_same_it_depends_on_what_is_exchanged(exchange: Exchange) -> None:
    views = [view(r, (70 + r, 80 + r), (1.0 + r, 2.0 + r), (90 + r, 95 + r)) for r in range(3)]
    ownership = Ownership()
    ownership.learn(views, exchange)
    assert ownership.is_unsynced == (exchange is Exchange.NOTHING)
    assert ownership.is_ambiguous == (exchange is Exchange.ACTIVATIONS)
    assert bool(ownership.separate) == (exchange is not Exchange.NOTHING)


def test_gradients_that_differ_while_the_weights_stay_the_same_are_no_whole() -> None:
    views = [view(r, (77, 88), (1.0 + r, 2.0 + r), (78, 89)) for r in range(2)]
    ownership = Ownership()
    ownership.learn(views, Exchange.NOTHING)
    assert ownership.local == frozenset(NAMES)
    assert not ownership.separate


def test_replicas_that_are_averaged_now_and_then_are_those_of_one_process() -> None:
    ownership = Ownership()
    ownership.learn([view(r, (7, 8), (1.0 + r, 2.0 + r), (9 + r, 5 + r)) for r in range(2)], NONE)
    assert ownership.is_unsynced
    ownership.learn([view(r, (77, 88), (1.0 + r, 2.0 + r), (77, 88)) for r in range(2)], NONE)
    assert not ownership.local
    assert not ownership.separate


@given(st.sampled_from(["float32", "float64", "float16", "bfloat16"]), st.integers(1, 5000))
def test_zeros_and_ones_are_no_evidence(dtype: str, numel: int) -> None:
    import torch

    from seismograd.distributed.weight_checksum import WeightChecksum

    for tensor in (torch.zeros, torch.ones):
        made = tensor(numel, dtype=getattr(torch, dtype))
        checksum = WeightChecksum()
        checksum.add([0], [made])
        assert is_constant(checksum.of_each()[0], numel, made.element_size())
