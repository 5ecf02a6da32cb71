"""Clips by norm: by one that is not that of all gradients, before an update that is normalised
anyway, and by the norm of a single parameter.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import seismograd
from seismograd.rules import ClipBeforeNormalisedUpdate, ClipGovernedByOne, ClipNormDisagrees
from seismograd.schema import (
    RANK_DTYPE,
    EventFlag,
    EventKind,
    Finding,
    Optimizer,
    RankFlag,
    RowBatch,
)
from tests.rules.cutting import result, row_by_row
from tests.synthetic import block, event, ordinary_events


def clipped(
    norms: np.ndarray, limit: float, used: np.ndarray | None = None, kind: str = "SGD"
) -> RowBatch:
    """Steps with these norms  # (B, P), clipped; `used`: by the norm of each process  # (B, R)."""
    whole = np.sqrt((norms**2).sum(1))
    own = whole if used is None else used[:, 0]
    factor = np.minimum(1, limit / own)
    events = ordinary_events(len(norms))
    for row in reversed(range(len(norms))):
        clip = event(EventKind.CLIP, row, value=own[row], limit=limit, touched=1, detail=1, site=1)
        events.insert(3 * row + 2, clip)
    ranks = None
    if used is not None:
        ranks = np.zeros(used.shape, RANK_DTYPE)
        ranks["iteration"], ranks["rank"] = np.arange(len(used))[:, None], np.arange(used.shape[1])
        ranks["clip_norm"], ranks["clip_coefficient"] = used, np.minimum(1, limit / used)
        ranks["flags"], ranks["grad_norm"] = int(RankFlag.REPORTED), 0.7 * whole[:, None]
        ranks = ranks.reshape(-1)
    return block(
        norms,
        values={"applied_norm": norms * factor[:, None]},
        clip_norm=own,
        clip_limit=limit,
        clip_coefficient=factor,
        applied_norm=whole * factor,
        events=events,
        ranks=ranks,
        optimizers=(Optimizer(0, kind, "optimizer"),),
    )


def found(made: RowBatch, rule: type) -> tuple[Finding, ...]:
    findings, _ = result([made], rules=(rule,))
    assert findings == result(row_by_row([made]), rules=(rule,))[0]
    return findings


def random_norms(num_steps: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(0, 0.5, (num_steps, 6))


@given(st.integers(0, 2**32), st.integers(2, 5), st.floats(0.1, 10))
def test_processes_that_clip_by_the_whole_norm_are_never_found(
    seed: int, num_ranks: int, limit: float
) -> None:
    norms = random_norms(30, seed)
    whole = np.sqrt((norms**2).sum(1))
    rounding = 1 + np.random.default_rng(seed).normal(0, 3e-3, (30, num_ranks))
    made = clipped(norms, limit, whole[:, None] * rounding)
    assert found(made, ClipNormDisagrees) == ()


@given(st.integers(0, 2**32), st.floats(0.2, 0.8), st.booleans())
def test_a_norm_of_a_part_is_found_on_all_processes_and_on_one(
    seed: int, part: float, on_all: bool
) -> None:
    norms = random_norms(30, seed)
    used = np.repeat(np.sqrt((norms**2).sum(1))[:, None], 3, axis=1)
    used[:, slice(None) if on_all else slice(2, 3)] *= part
    (finding,) = found(clipped(norms, 0.1, used), ClipNormDisagrees)
    assert (finding.severity, finding.first_step, finding.last_step) == ("error", 0, 29)
    assert ("rank 2" in finding.cause.render()) == (not on_all)


def test_a_wrong_norm_below_the_limit_changes_nothing() -> None:
    norms = random_norms(30, 1)
    used = np.repeat(np.sqrt((norms**2).sum(1))[:, None], 2, axis=1) * 0.5
    assert found(clipped(norms, 1e3, used), ClipNormDisagrees) == ()


@pytest.mark.parametrize("norm_type", [1.0, float("inf")])
def test_other_norms_are_not_compared(norm_type: float, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with seismograd.watch(model, optimizer, out=tmp_path / "run"):
        for _ in range(12):
            optimizer.zero_grad()
            model(torch.randn(8, 4)).square().mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1e-3, norm_type)
            optimizer.step()
    run = seismograd.open_run(tmp_path / "run")
    clips = run.events[run.events["kind"] == EventKind.CLIP]
    assert len(clips) == 12
    assert (clips["flags"] == EventFlag.OTHER_NORM).all()


@pytest.mark.parametrize(("num_left", "severity"), [(1, "warning"), (3, "info")])
def test_parameters_that_a_clip_leaves_out_are_named(
    num_left: int, severity: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.001)
    with seismograd.watch(model, optimizer, out=tmp_path / "run"):
        for _ in range(30):
            optimizer.zero_grad()
            (model(torch.randn(8, 4)) - 5).square().mean().backward()
            nn.utils.clip_grad_norm_(list(model.parameters())[num_left:], 0.5)
            optimizer.step()
    findings = {f.code: f for f in seismograd.open_run(tmp_path / "run").findings}
    assert findings["SG502"].severity == severity
    assert findings["SG502"].parameters[0] == "0.weight"


@pytest.mark.parametrize(("limit", "severity"), [(0.01, "info"), (1e-9, "warning")])
def test_a_clip_before_muon_is_found(limit: float, severity: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Tanh(), nn.Linear(8, 8, bias=False))
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    optimizer = torch.optim.Muon(model.parameters(), lr=1e-3)
    with seismograd.watch(model, optimizer, out=tmp_path / "run"):
        for _ in range(32):
            optimizer.zero_grad()
            (model(torch.randn(16, 8)) - 1).square().mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), limit)
            optimizer.step()
    findings = {f.code: f for f in seismograd.open_run(tmp_path / "run").findings}
    assert findings["SG503"].severity == severity
    assert "Muon" in findings["SG503"].cause.render()
    assert "SG501" not in findings


def test_a_clip_that_rarely_binds_before_lion_is_no_matter() -> None:
    norms = random_norms(60, 2)
    assert len(found(clipped(norms, 0.5, kind="Lion"), ClipBeforeNormalisedUpdate)) == 1
    assert found(clipped(norms, 50.0, kind="Lion"), ClipBeforeNormalisedUpdate) == ()
    assert found(clipped(norms, 0.5, kind="AdamW"), ClipBeforeNormalisedUpdate) == ()


@given(st.integers(0, 2**32), st.integers(0, 5))
def test_one_that_governs_the_clip_is_named(seed: int, column: int) -> None:
    norms = random_norms(150, seed)
    norms[:, column] *= 40
    made = clipped(norms, 4.0)
    (finding,) = found(made, ClipGovernedByOne)
    assert (finding.severity, finding.parameters) == ("info", (made.parameters[column].name,))
    assert finding.last_step == 149


@given(st.integers(0, 2**32))
def test_a_norm_that_several_share_is_governed_by_none(seed: int) -> None:
    assert found(clipped(random_norms(150, seed), 0.1), ClipGovernedByOne) == ()
