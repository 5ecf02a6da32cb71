"""A steady step costs so many calls of Python functions of ours and no more. Calls are counted,
never time: the numbers are the same on every machine (`benchmarks/calls.py` prints them).
"""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest

from benchmarks.calls import NUM_STEPS, WORKLOADS, Calls, steady_step, steady_steps
from seismograd.capture.steady import extension
from seismograd.measure.backend_selection import has_kernel
from seismograd.measure.native.tensor_reads import has_extension
from seismograd.tensors.saved_tensors import SHOWS_DATA

pytestmark = [
    pytest.mark.skipif(
        not (has_kernel() and has_extension() and extension.has_extension()),
        reason="counted with all libraries",
    ),
    pytest.mark.skipif(not SHOWS_DATA, reason="counted with a torch that shows what is saved"),
]

# `docs/cost.md` has the same; who needs more says there what for
CALLS = {
    ("mlp", False): {"zero_grad": 1, "backward": 1, "step": 2},
    ("mlp", True): {"zero_grad": 1, "backward": 1, "clip": 3, "step": 2},
    ("hundred", False): {"zero_grad": 1, "backward": 1, "step": 2},
    ("hundred", True): {"zero_grad": 1, "backward": 1, "clip": 3, "step": 2},
}
# where Python makes the visits
BY_PYTHON = {
    ("mlp", False): {"zero_grad": 5, "backward": 14, "step": 21},
    ("mlp", True): {"zero_grad": 5, "backward": 14, "clip": 21, "step": 20},
    ("hundred", False): {"zero_grad": 5, "backward": 14, "step": 36},
    ("hundred", True): {"zero_grad": 5, "backward": 14, "clip": 21, "step": 35},
}


def by_visit(calls: Calls) -> Counter[str]:
    visits: Counter[str] = Counter()
    for (visit, _), num in calls.items():
        visits[visit] += num
    return visits


@pytest.mark.parametrize("by_python", [False, pytest.param(True, marks=pytest.mark.extended)])
@pytest.mark.parametrize(("model", "clipped"), CALLS)
def test_a_steady_step_costs_as_many_calls_as_are_documented(
    model: str, clipped: bool, by_python: bool, tmp_path: Path
) -> None:
    with extension.without_extension() if by_python else nullcontext():
        calls = steady_step(WORKLOADS[model](), tmp_path / "run", clipped)
    visits = by_visit(calls)
    documented = (BY_PYTHON if by_python else CALLS)[model, clipped]
    assert set(visits) == set(documented)
    for visit, num in documented.items():
        most = {".".join(f): num for (where, f), num in calls.most_common() if where == visit}
        # later versions of Python call nothing for a comprehension
        assert visits[visit] == num or (sys.version_info >= (3, 12) and visits[visit] < num), most


def test_only_what_is_probed_costs_calls_of_its_own(tmp_path: Path) -> None:
    """Where nothing is probed, a hundred tensors take as many calls as four."""
    few, many = (
        by_visit(steady_step(WORKLOADS[model](), tmp_path / model, clipped=True))
        for model in ("mlp", "hundred")
    )
    assert {visit: few[visit] for visit in ("zero_grad", "clip")} == {
        visit: many[visit] for visit in ("zero_grad", "clip")
    }


def test_a_sampled_step_costs_nothing_in_the_next_one(tmp_path: Path) -> None:
    """Gradients are read the short way where they are sampled, too, but for the steps of sketches;
    and where all of them are ordinary nobody looks for a zero in what was read.
    """
    calls: Counter[str] = Counter()
    with extension.without_extension():
        for step in steady_steps(WORKLOADS["mlp"](), tmp_path / "run"):
            for (_, (_, function)), num in step.items():
                calls[function] += num
    assert calls["GradientReader.read"] == calls["GradientSketcher.sketch"]
    assert calls["GradientReader.read_again"] == NUM_STEPS
    assert calls["OptimizerWindow.has_zero_gradients"] <= 2  # where looks are due in any case
    assert not calls["BirthObserver.step_begins"]
