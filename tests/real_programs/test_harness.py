"""What compares real programs with and without seismograd finds what it is there to find."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.real_programs import document
from benchmarks.real_programs.comparing import Verdict, compare
from benchmarks.real_programs.judging import is_right, judge
from benchmarks.real_programs.programs import PROGRAMS, Program, command_of
from benchmarks.real_programs.running import Line, Outcome, run_plain, run_watched

DOCUMENT = Path(__file__).parents[2] / "docs" / "real_programs.md"

TWO_MODELS = """
import sys, torch
first, second = torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)
optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (first, second)]
for step in range(6):
    for optimizer in optimizers:
        optimizer.zero_grad()
        loss = second(first(torch.randn(4, 3)).relu()).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(first.parameters(), 0.01)
        optimizer.step()
    {besides}
print(loss.item().hex())
"""


def script(besides: str = "pass") -> Program:
    def prepare(start: Path) -> None:
        (start / "train.py").write_text(TWO_MODELS.format(besides=besides), encoding="utf-8")

    prefixes = (("first.",), ("second.",))
    return Program("script", ("train.py",), prepare=prepare, prefixes=prefixes)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Outcome, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return run_plain(script(), folder, folder), *run_watched(script(), folder, folder)


def test_a_right_record_of_the_same_training_is_found_right(
    runs: tuple[Outcome, Outcome, Path],
) -> None:
    verdict = compare(script(), *runs)
    assert is_right(script(), verdict)
    assert verdict == Verdict((), num_steps=12, num_recorded=12, num_parameters=4, num_norms=24)


RANDOM = "torch.rand(int('seismograd' in sys.modules and step == 2))"
WEIGHTS = "first.bias.data += 1e-4 * ('seismograd' in sys.modules and step == 2)"


@pytest.mark.parametrize(
    ("besides", "differing"),
    [
        (f"{RANDOM}; {WEIGHTS}", ("random", "weights")),
        pytest.param(RANDOM, ("random",), marks=pytest.mark.extended),
        pytest.param(WEIGHTS, ("weights",), marks=pytest.mark.extended),
    ],
)
def test_what_differs_under_seismograd_is_found_at_the_step_after(
    besides: str,
    differing: tuple[str, ...],
    tmp_path: Path,
) -> None:
    differences = judge(script(besides), tmp_path, tmp_path).differences
    for difference in differing:
        assert f"{difference} differ from step 6 on" in differences
    assert "another output" in differences


def test_a_program_that_fails_by_itself_is_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="script ends with 3 without seismograd"):
        judge(script("sys.exit(3)"), tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda step: step["norms"].update({"0": step["norms"]["0"] * 1.00001}), "first.weight"),
        (lambda step: step.update(lr=0.10001), "lr 0.1, not 0.10001"),
    ],
)
def test_a_record_that_is_off_is_found(
    change: Callable[[Line], None],
    wrong: str,
    runs: tuple[Outcome, Outcome, Path],
) -> None:
    plain, watched, record = copy.deepcopy(runs)
    change([line for line in plain.lines(0) if line["kind"] == "step"][4])
    (norms,) = compare(script(), plain, watched, record).norms
    assert norms.startswith("step 4: ")
    assert wrong in norms


def test_the_document_has_a_row_of_every_program_as_it_is_run_now() -> None:
    rows = document.rows_of(DOCUMENT)
    assert list(rows) == [program.name for program in PROGRAMS]
    for program in PROGRAMS:
        assert f"| `{command_of(program)}` |" in rows[program.name]
