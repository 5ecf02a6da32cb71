"""A steady step costs so many calls of Python functions of ours and no more. Calls are counted,
never time: the numbers are the same on every machine (`benchmarks/calls.py` prints them).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.calls import WORKLOADS, Calls, steady_step
from seismograd.measure.backend_selection import has_kernel

pytestmark = pytest.mark.skipif(not has_kernel(), reason="counted with the kernel")

# `docs/cost.md` has the same; who needs more says there what for
LIMITS = {
    ("mlp", False): {"zero_grad": 16, "backward": 80, "step": 102},
    ("mlp", True): {"zero_grad": 16, "backward": 80, "clip": 63, "step": 84},
    ("hundred", False): {"zero_grad": 16, "backward": 83, "step": 250},
    ("hundred", True): {"zero_grad": 16, "backward": 83, "clip": 63, "step": 232},
}


def by_visit(calls: Calls) -> Counter[str]:
    visits: Counter[str] = Counter()
    for (visit, _), num in calls.items():
        visits[visit] += num
    return visits


@pytest.mark.parametrize(("model", "clipped"), LIMITS)
def test_a_steady_step_costs_no_more_calls_than_it_did(
    model: str, clipped: bool, tmp_path: Path
) -> None:
    calls = steady_step(WORKLOADS[model](), tmp_path / "run", clipped)
    visits = by_visit(calls)
    assert set(visits) == set(LIMITS[model, clipped])
    for visit, limit in LIMITS[model, clipped].items():
        most = {".".join(f): num for (where, f), num in calls.most_common() if where == visit}
        assert 0 < visits[visit] <= limit, (visit, most)


def test_only_what_is_probed_costs_calls_of_its_own(tmp_path: Path) -> None:
    """Where nothing is probed, a hundred tensors take as many calls as four."""
    few, many = (
        by_visit(steady_step(WORKLOADS[model](), tmp_path / model, clipped=True))
        for model in ("mlp", "hundred")
    )
    assert {visit: few[visit] for visit in ("zero_grad", "clip")} == {
        visit: many[visit] for visit in ("zero_grad", "clip")
    }
