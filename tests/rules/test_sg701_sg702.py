"""Replicas that drift apart and processes unlike the others, in made-up records of several
processes.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.rules import RankOutlier, ReplicaDrift
from seismograd.schema import RANK_DTYPE, Finding, RankFlag
from tests.rules.cutting import result
from tests.synthetic import block

EVERYTHING = int(RankFlag.REPORTED | RankFlag.LOCAL | RankFlag.LOCAL_ALL | RankFlag.CHECKSUM)


def ranks(num_steps: int, num_ranks: int = 4) -> np.ndarray:
    """Processes that agree  # (num_steps, num_ranks)."""
    made = np.zeros((num_steps, num_ranks), RANK_DTYPE)
    made["iteration"], made["rank"] = np.arange(num_steps)[:, None], np.arange(num_ranks)
    made["weight_checksum"] = 1000 + np.arange(num_steps)[:, None]
    made["local_norm"], made["flags"] = 1.0, EVERYTHING
    return made


def found(made: np.ndarray, rule: type) -> tuple[Finding, ...]:
    findings, _ = result([block(np.ones((len(made), 2)), ranks=made.reshape(-1))], rules=(rule,))
    return findings


@given(st.integers(1, 60), st.integers(2, 6), st.integers(0, 2**32))
def test_processes_that_agree_are_never_found(num_steps: int, num_ranks: int, seed: int) -> None:
    made = ranks(num_steps, num_ranks)
    made["local_norm"] = np.random.default_rng(seed).lognormal(0, 0.5, made.shape)
    assert found(made, ReplicaDrift) == ()
    assert found(made, RankOutlier) == ()


@given(since=st.integers(0, 20), odd=st.integers(0, 3))
def test_drift_is_dated_and_the_odd_one_is_named(since: int, odd: int) -> None:
    made = ranks(25)
    made["weight_checksum"][since:, odd] += 1
    (finding,) = found(made, ReplicaDrift)
    assert (finding.severity, finding.first_step, finding.last_step) == ("error", since, 24)
    assert ("from the beginning" in finding.cause.render()) == (since == 0)
    assert str(odd if odd else "1, 2, 3") in finding.cause.render()


def test_shards_of_different_parameters_may_differ() -> None:
    made = ranks(20)
    made["replica_of"] = np.array([0, 1, 0, 1])
    made["weight_checksum"][:, 1::2] += 77
    assert found(made, ReplicaDrift) == ()
    made["replica_of"] = -1
    made["weight_checksum"] += np.arange(4, dtype=np.uint64)
    assert found(made, ReplicaDrift) == ()


def test_replicas_that_are_averaged_now_and_then_are_worth_a_mention() -> None:
    made = ranks(40)
    apart = np.arange(40) % 8 != 0
    made["weight_checksum"][apart, 1] += 5
    assert [each.severity for each in found(made, ReplicaDrift)] == ["info"]


def test_a_difference_in_the_only_check_is_told_at_the_end() -> None:
    made = ranks(5)
    made["flags"][1:] = int(RankFlag.REPORTED)
    made["weight_checksum"][0, 2] += 1
    assert [each.severity for each in found(made, ReplicaDrift)] == ["error"]
    made["flags"][4] = EVERYTHING
    made["weight_checksum"][0, 2] -= 1
    made["weight_checksum"][4, 2] += 1
    assert [each.severity for each in found(made, ReplicaDrift)] == ["warning"]


@given(rank=st.integers(0, 3), step=st.integers(0, 29))
def test_the_process_that_brings_the_nan_is_named_at_once(rank: int, step: int) -> None:
    made = ranks(30)
    made["local_nonfinite"][step, rank], made["local_norm"][step, rank] = 3, np.nan
    (finding,) = found(made, RankOutlier)
    assert (finding.first_step, finding.last_step) == (step, step)
    assert f"rank {rank}" in finding.cause.render()


def test_a_nan_on_all_processes_is_nobodys() -> None:
    made = ranks(30)
    made["local_nonfinite"][4:], made["local_norm"][4:] = 3, np.nan
    assert found(made, RankOutlier) == ()


@given(factor=st.floats(30, 1e6), seed=st.integers(0, 2**32), scale=st.integers(-20, 20))
def test_one_that_is_steadily_larger_is_found_at_any_scale(
    factor: float, seed: int, scale: int
) -> None:
    made = ranks(30)
    made["local_norm"] = 10.0**scale * np.random.default_rng(seed).lognormal(0, 0.2, made.shape)
    made["local_norm"][:, 2] *= factor
    (finding,) = found(made, RankOutlier)
    assert finding.first_step == 0
    assert "rank 2" in finding.cause.render()


@pytest.mark.parametrize("when", [slice(10, 11), slice(5, 10)])
def test_one_that_is_larger_now_and_then_is_no_outlier(when: slice) -> None:
    made = ranks(40)
    made["local_norm"][when, 1] = 1e4
    assert found(made, RankOutlier) == ()


def test_a_single_process_is_not_evaluated() -> None:
    for rule in (ReplicaDrift, RankOutlier):
        _, (status,) = result([block(np.ones((10, 2)))], rules=(rule,))
        assert status.status == "not evaluated"
