"""`seismograd compare` says of two trainings whether their gradients are the same to rounding, or
from which step and parameter on not, and by which factor.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import seismograd
from seismograd.cli import main
from seismograd.i18n import use_language
from seismograd.views.parity.parameter_parity import Difference
from seismograd.views.parity.parity_words import details, headline
from seismograd.views.parity.run_parity import Outcome, RunParity, compare_parity
from tests.synthetic import block, make_parameters, write_run

STEPS = 5
Change = Callable[[nn.Sequential], Any]


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGUAGE", "en")


def train(
    out: Path,
    *,
    change: Change = lambda model: None,
    parts: int = 1,
    divisor: float = 1.0,
    halves: bool = False,
    loss_scale: float = 0.0,
    lr: float = 0.05,
    reduction: str = "mean",
    compiled: bool = False,
    steps: int = STEPS,
) -> seismograd.Run:
    """A small classifier, always with the same data; sixteen rows a step."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(12, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 5)
    )
    change(model)
    optimizer = torch.optim.SGD(model.parameters(), lr)
    scaler = torch.amp.GradScaler("cpu", init_scale=loss_scale or 1.0, enabled=loss_scale > 0)
    forward = torch.compile(model, backend="aot_eager") if compiled else model
    with seismograd.watch(model, optimizer, out=out, quiet=True):
        for step in range(steps):
            generator = torch.Generator().manual_seed(step)
            x = torch.randn(16, 12, generator=generator)
            y = torch.randint(0, 5, (16,), generator=generator)
            optimizer.zero_grad()
            for rows, labels in zip(x.chunk(parts), y.chunk(parts), strict=True):
                with torch.autocast("cpu", torch.bfloat16, enabled=halves):
                    logits = forward(rows)
                loss = nn.functional.cross_entropy(logits.float(), labels, reduction=reduction)
                scaler.scale(loss / divisor).backward()
            scaler.step(optimizer)
            scaler.update()
    return seismograd.open_run(out)


def multiplied(parameter: str, factor: float, from_step: int = 0) -> Change:
    """A hook that multiplies one gradient."""

    def change(model: nn.Sequential) -> None:
        steps = iter(range(STEPS))
        model.get_parameter(parameter).register_hook(
            lambda gradient: gradient * factor if next(steps) >= from_step else gradient
        )

    return change


def transposed(model: nn.Sequential) -> None:
    model[2].weight.register_hook(lambda gradient: gradient.t().contiguous())


def turned(model: nn.Sequential) -> None:
    """Another gradient of the same norm."""
    model[2].weight.register_hook(
        lambda g: g.norm() * nn.functional.normalize(g + g.std(), dim=None)
    )


def spoken(parity: RunParity) -> str:
    return "\n".join([headline(parity), *details(parity)])


def compared(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], step: int | None = None
) -> RunParity:
    return compare_parity(train(tmp_path / "a", **first), train(tmp_path / "b", **second), step)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"parts": 4, "divisor": 4.0},
        {"loss_scale": 1024.0},
        {"compiled": True},
        {"lr": 0.05},
    ],
    ids=["again", "in micro-batches", "with a loss scale", "compiled", "with the same rate"],
)
def test_trainings_that_ought_to_be_the_same_are(tmp_path: Path, options: dict[str, Any]) -> None:
    parity = compared(tmp_path, {}, options)
    assert parity.outcome is Outcome.SAME
    assert parity.num_steps == parity.found.num_same == STEPS
    assert len(parity.parameters) == 6
    assert all(each.difference is Difference.SAME for each in parity.parameters)
    assert all(each.cosine == pytest.approx(1, abs=1e-6) for each in parity.parameters)
    assert "the same to rounding: 6 parameters, 5 steps" in headline(parity)


def test_sixteen_bits_are_rounding_too_and_are_named(tmp_path: Path) -> None:
    parity = compared(tmp_path, {}, {"halves": True})
    assert parity.outcome is Outcome.SAME
    assert parity.found.largest > 1e-4
    assert "rounding in sixteen bits" in headline(parity)


@pytest.mark.parametrize(
    ("first", "second", "factor", "code", "said"),
    [
        ({"parts": 4}, {}, 4, "accumulation", "the number of micro-batches of the first run, 4"),
        ({}, {"parts": 4}, 0.25, "accumulation", "micro-batches of the second run, 4: its losses"),
        ({"parts": 4, "divisor": 16.0}, {}, 0.25, "accumulation", "divided by it once more"),
        ({}, {"divisor": 2.0}, 2, "two", "½ (x − y)²"),
        (
            {"reduction": "sum"},
            {},
            16,
            "loss_terms",
            "what a term counts in the losses, 1 and 0.0625",
        ),
        (
            {
                "loss_scale": 1024.0,
                "change": lambda m: [p.register_hook(lambda g: g / 1024) for p in m.parameters()],
            },
            {},
            1 / 1024,
            "loss_scale",
            "the loss scale of the first run, 1024",
        ),
    ],
    ids=["summed", "summed in the second", "divided twice", "half", "a sum", "loss scale"],
)
def test_a_factor_of_all_gradients_is_named(
    tmp_path: Path,
    first: dict[str, Any],
    second: dict[str, Any],
    factor: float,
    code: str,
    said: str,
) -> None:
    parity = compared(tmp_path, first, second)
    assert (parity.outcome, parity.step) == (Outcome.FACTOR, 0)
    assert parity.factor == pytest.approx(factor, rel=1e-4)
    assert code in {each.code for each in parity.reasons}
    assert said in spoken(parity)
    assert all(each.difference is Difference.FACTOR for each in parity.parameters)


def test_both_languages_name_the_run_that_a_factor_comes_from(tmp_path: Path) -> None:
    parity = compared(tmp_path, {"parts": 4}, {})
    assert "the number of micro-batches of the first run, 4: " in spoken(parity)
    with use_language("zh"):
        assert "第一次运行的微批次数（4）：" in spoken(parity)


def test_a_factor_that_nobody_knows_is_said_to_be_none_of_them(tmp_path: Path) -> None:
    def grown(model: nn.Sequential) -> None:
        for parameter in model.parameters():
            parameter.register_hook(lambda gradient: gradient * 3.7)

    parity = compared(tmp_path, {"change": grown}, {})
    assert parity.outcome is Outcome.FACTOR
    assert "none of the factors that are known" in spoken(parity)


def test_the_first_step_and_parameter_that_differ_are_named(tmp_path: Path) -> None:
    parity = compared(tmp_path, {}, {"change": multiplied("2.weight", 1.5, from_step=3)})
    assert (parity.outcome, parity.step) == (Outcome.DIFFERENT, 3)
    assert parity.found.num_same == 3
    assert parity.culprit is not None
    assert parity.culprit.name == "2.weight"
    assert parity.culprit.ratio == pytest.approx(2 / 3)
    assert parity.num_behind == 3
    said = spoken(parity)
    assert "Step 3: from the loss on, 2.weight is the first whose gradient differs" in said
    assert "the gradients of 3 parameters nearer to the loss are the same" in said
    assert "3 steps before it are the same to rounding" in said
    assert "the losses are the same there" in said


def test_numbers_in_other_places_are_told_from_other_numbers(tmp_path: Path) -> None:
    parity = compared(tmp_path, {}, {"change": transposed})
    assert parity.culprit is not None
    assert (parity.culprit.name, parity.culprit.difference) == ("2.weight", Difference.MOVED)
    assert abs(parity.culprit.cosine) < 0.5
    assert "a shard is transposed" in spoken(parity)
    turned_parity = compared(tmp_path / "other", {}, {"change": turned})
    assert turned_parity.culprit is not None
    assert turned_parity.culprit.difference is Difference.DIFFERENT
    assert turned_parity.culprit.ratio == pytest.approx(1, abs=1e-5)


def test_a_gradient_that_is_zero_or_not_finite_in_one_run_only_is_said_so(tmp_path: Path) -> None:
    parity = compared(tmp_path, {}, {"change": multiplied("0.weight", 0.0)})
    assert parity.culprit is not None
    assert (parity.culprit.name, parity.culprit.difference) == ("0.weight", Difference.STATE)
    assert "finite and all zero" in headline(parity)
    parity = compared(tmp_path / "nan", {}, {"change": multiplied("0.weight", float("nan"))})
    assert "finite and non-finite" in headline(parity)


def test_other_rates_and_other_weights_are_said(tmp_path: Path) -> None:
    parity = compared(tmp_path, {}, {"lr": 0.5})
    assert (parity.outcome, parity.step) == (Outcome.DIFFERENT, 1)
    assert "the learning rates differ: 0.05 and 0.5" in spoken(parity)

    def other_weights(model: nn.Sequential) -> None:
        with torch.no_grad():
            model[0].weight.mul_(1.01)

    parity = compared(tmp_path / "weights", {}, {"change": other_weights})
    assert parity.step == 0
    assert "the weights differ before this step already: the norm of 0.weight" in spoken(parity)


def test_rounding_that_training_amplifies_is_no_fault(tmp_path: Path) -> None:
    runs = []
    for name, growth in (("a", 0.0), ("b", 1e-7)):
        norms = [[1.0, 2.0 * (1 + growth * 1.5**step)] for step in range(40)]
        runs.append(seismograd.open_run(write_run(tmp_path / name, [block(norms)])))
    parity = compare_parity(*runs)
    assert parity.outcome is Outcome.DRIFT
    assert 15 < parity.found.num_same < 20
    assert "little by little" in headline(parity)


def test_a_bias_whose_gradient_is_rounding_alone_is_not_compared(tmp_path: Path) -> None:
    runs = [
        seismograd.open_run(write_run(tmp_path / name, [block([[1.0, noise]] * 3)]))
        for name, noise in (("a", 1e-9), ("b", 7e-9))
    ]
    assert compare_parity(*runs).outcome is Outcome.SAME


def test_what_is_not_measured_is_neither_the_same_nor_different(tmp_path: Path) -> None:
    nothing = float("nan")
    runs = [
        seismograd.open_run(
            write_run(tmp_path / name, [block([[nothing, nothing]] * 3, state=[[0, 0]] * 3)])
        )
        for name in ("a", "b")
    ]
    assert compare_parity(*runs).outcome is Outcome.NOTHING


def test_another_number_of_scalars_is_a_difference(tmp_path: Path) -> None:
    runs = [
        seismograd.open_run(
            write_run(
                tmp_path / name,
                [block([[1.0, 1.0]] * 3, parameters=make_parameters(shapes=shapes))],
            )
        )
        for name, shapes in (("a", [(8, 8), (8,)]), ("b", [(2, 8, 8), (8,)]))
    ]
    parity = compare_parity(*runs)
    assert parity.culprit is not None
    assert parity.culprit.difference is Difference.SHAPE
    assert "(8, 8) in the first run and (2, 8, 8) in the second" in spoken(parity)


def test_a_step_can_be_asked_for_and_one_that_is_missing_is_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # a narrow table leaves columns out
    train(tmp_path / "a")
    train(tmp_path / "b", change=multiplied("2.weight", 1.5, from_step=3))
    both = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert main(["compare", *both, "--step", "1"]) == 0
    assert "Step 1: the gradients are the same to rounding" in capsys.readouterr().out
    assert main(["compare", *both, "--format", "json"]) == 0
    parity = json.loads(capsys.readouterr().out)["parity"]
    assert (parity["outcome"], parity["step"], parity["first_parameter"]) == (
        "different",
        3,
        "2.weight",
    )
    assert [each["name"] for each in parity["parameters"]] == [
        f"{layer}.{part}" for layer in (0, 2, 4) for part in ("weight", "bias")
    ]
    assert parity["sketched_steps"][0]["cosine"] == pytest.approx(1)
    for wrong, line in (
        (["--step", "99"], "step 99 is not in both runs · both have steps 0 to 4"),
        (["--step", "x"], "--step"),
        (["--step", "-1"], "step -1 is not in both runs"),
    ):
        assert main(["compare", *both, *wrong]) == 2
        said = capsys.readouterr().err
        assert line in said
        assert "Traceback" not in said
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "nowhere")]) == 2
    assert main(["compare", *both]) == 0
    shown = capsys.readouterr().out
    assert "2.weight is the first whose gradient differs" in shown
    assert "cosine between the runs" in shown


def test_damaged_sketches_are_left_out_in_silence(tmp_path: Path) -> None:
    one, other = train(tmp_path / "a"), train(tmp_path / "b")
    for path in (tmp_path / "b" / "samples").iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    parity = compare_parity(one, seismograd.open_run(tmp_path / "b"))
    assert parity.outcome is Outcome.SAME
    assert parity.sketched == ()
    assert other.num_rows == STEPS


def test_random_gradients_have_a_cosine_near_that_of_their_sketches(tmp_path: Path) -> None:
    def other_data(model: nn.Sequential) -> None:
        model.register_forward_pre_hook(lambda _, inputs: (inputs[0].flip(0),))

    runs = train(tmp_path / "a"), train(tmp_path / "b", change=other_data)
    exact: list[Tensor] = []
    for change in (lambda model: None, other_data):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(12, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 5)
        )
        change(model)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(16, 12, generator=generator)
        y = torch.randint(0, 5, (16,), generator=generator)
        nn.functional.cross_entropy(model(x), y).backward()
        exact.append(model[2].weight.grad.flatten())
    found = next(p for p in compare_parity(*runs).parameters if p.name == "2.weight")
    cosine = float(nn.functional.cosine_similarity(exact[0], exact[1], dim=0))
    assert abs(found.cosine - cosine) <= 3 / 8
