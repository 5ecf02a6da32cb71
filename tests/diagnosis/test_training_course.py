"""How a training went, beside what the rules say of it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from seismograd.diagnosis.training_course import Trend, training_course
from seismograd.diagnosis.verdict import make_verdict
from seismograd.i18n import Message
from seismograd.record.reader import Run, open_run
from seismograd.schema import EventKind, FloatArray, Optimizer, Parameter, RuleStatus, State
from seismograd.views.verdict_words import headline, tone
from tests.synthetic import block, event, make_parameters, write_run

CLEAR = (RuleStatus("SG101", "vanishing-gradient", "clear", Message("")),)
GUESS = math.log(10)


def classifier() -> tuple[Parameter, ...]:
    first, second = make_parameters(names=("fc1.weight", "fc2.weight"), shapes=((8, 8), (10, 8)))
    return first, replace(second, activation="log_softmax")


def with_losses(path: Path, losses: FloatArray, **changes: object) -> Run:
    """A classifier among ten with these losses."""
    num = len(losses)
    made = block(
        np.ones((num, 2)),
        parameters=classifier(),
        loss=losses,
        events=[
            event(EventKind.BACKWARD, step, value=losses[step], count=64, weight=1 / 64)
            for step in range(num)
        ],
        **changes,  # type: ignore[arg-type]
    )
    return open_run(write_run(path, [made]))


def noisy(start: float, stop: float, num: int = 200, noise: float = 0.05) -> FloatArray:
    return np.geomspace(start, stop, num) + noise * np.random.default_rng(0).standard_normal(num)


@pytest.mark.parametrize(
    ("losses", "trend", "said"),
    [
        (noisy(2.31, 0.2), Trend.FELL, "the loss fell (2"),
        (noisy(2.31, 2.30), Trend.FLAT, "the loss did not fall (2"),
        (noisy(2.31, 2.1, 12, 0.4), Trend.NOISY, "no more than its noise (2"),
        (noisy(2.31, 2.9), Trend.ROSE, "the loss rose (2"),
        (
            np.concatenate([np.full(20, 0.35), 39 + 50 * noisy(1, 1, 180, 1.0) - 50]),
            Trend.ROSE,
            "the loss rose (0.35 → ",
        ),
        (2.31 - np.geomspace(0.01, 1e9, 200), Trend.UNBOUNDED, "fell without a limit (2"),
        (
            np.concatenate([[19.7, 1744.0], np.full(98, 2.303)]),
            Trend.FLAT,
            "did not fall (2.303 → 1744 → 2.303",
        ),
        (
            np.concatenate([np.full(5, 19.7), [1744.0], np.full(98, 2.303)]),
            Trend.GUESS,
            "only to that of a guess (19.7 → 1744 → 2.303; a guess among 10 classes is 2.303)",
        ),
        (
            np.concatenate([[19.7], np.full(20, 0.035), np.full(20, 0.0003)]),
            Trend.FELL,
            "the loss fell (19.7 → 0.0003; a",
        ),
        (
            np.concatenate([[19.7], np.full(40, 2.303)]),
            Trend.GUESS,
            "only to that of a guess (19.7 → 2.303; a",
        ),
        (np.concatenate([noisy(2.3, 1.0), np.full(50, math.nan)]), Trend.NOT_FINITE, "not finite"),
        (np.array([2.3, 1.0, 0.5]), Trend.TOO_FEW, "too few steps"),
    ],
)
def test_the_loss_has_a_course_and_only_one_that_fell_is_green(
    tmp_path: Path, losses: FloatArray, trend: Trend, said: str
) -> None:
    run = with_losses(tmp_path / "run", losses)
    course = training_course(run)
    verdict = make_verdict(run, (), CLEAR)
    assert course.trend == trend
    assert said in headline(verdict, course)
    assert tone(verdict, course) == ("good" if trend == Trend.FELL else "neutral")
    assert (course.num_classes, course.guess_loss) == (10, pytest.approx(GUESS))


def test_the_loss_of_a_guess_is_told_of_a_mean_over_samples_only(tmp_path: Path) -> None:
    summed = with_losses(tmp_path / "run", 64 * noisy(2.31, 2.30))
    assert not math.isnan(training_course(summed).guess_loss)
    made = block(np.ones((20, 2)), parameters=classifier(), loss=64 * noisy(2.31, 2.3, 20))
    without_counts = open_run(write_run(tmp_path / "other", [made]))
    assert math.isnan(training_course(without_counts).guess_loss)


def test_the_losses_of_several_optimizers_are_no_measure(tmp_path: Path) -> None:
    made = block(
        np.ones((50, 2)),
        loss=noisy(1.4, 1.6, 50),
        num_backwards=2,
        optimizers=(Optimizer(0, "Adam", "opt_g"), Optimizer(1, "Adam", "opt_d")),
    )
    made.steps["num_steps"] = 2
    run = open_run(write_run(tmp_path / "run", [made]))
    assert training_course(run).trend == Trend.SEVERAL


def test_an_optimizer_that_made_no_step_is_not_one_of_several(tmp_path: Path) -> None:
    made = block(
        np.ones((50, 2)),
        loss=noisy(1.6, 0.4, 50),
        num_backwards=2,
        optimizers=(Optimizer(0, "", "by hand"), Optimizer(1, "Adam", "optimizer")),
    )
    made.steps["optimizer"] = 1
    assert training_course(open_run(write_run(tmp_path / "run", [made]))).trend == Trend.FELL


def in_turn(path: Path, turns: list[int]) -> Run:
    """The loss of the second optimizer is large and rises, that of the first falls."""
    rng = np.random.default_rng(0)
    losses = np.where(np.array(turns) == 0, 1.0, 7.0) + 0.01 * rng.standard_normal(len(turns))
    losses[: len(turns) // 2] += np.where(np.array(turns) == 0, 1.0, -1.0)[: len(turns) // 2]
    made = block(
        np.ones((len(turns), 2)),
        loss=losses,
        optimizers=(Optimizer(0, "Adam", "opt_d"), Optimizer(1, "SGD", "")),
    )
    made.steps["optimizer"] = turns
    return open_run(write_run(path, [made]))


@pytest.mark.parametrize("turns", [[0, 1] * 40, [0, 0, 0, 0, 0, 1] * 30])
def test_losses_of_optimizers_in_turn_are_told_apart(tmp_path: Path, turns: list[int]) -> None:
    run = in_turn(tmp_path / "run", turns)
    course = training_course(run)
    assert course.trend == Trend.SEVERAL
    assert [each.optimizer for each in course.by_optimizer] == ["opt_d", "SGD"]
    (first, second), verdict = course.by_optimizer, make_verdict(run, (), CLEAR)
    assert (first.first_loss, first.last_loss) == (pytest.approx(2, rel=0.1), pytest.approx(1, 0.1))
    assert (second.first_loss, second.last_loss) == (pytest.approx(6, 0.1), pytest.approx(7, 0.1))
    assert "opt_d: 2" in headline(verdict, course)
    assert tone(verdict, course) == "neutral"


def test_one_optimizer_after_another_are_one_course(tmp_path: Path) -> None:
    course = training_course(in_turn(tmp_path / "run", [1] * 40 + [0] * 40))
    assert (course.trend, course.by_optimizer) == (Trend.FELL, ())


def test_a_run_without_a_loss_or_a_step_has_no_course(tmp_path: Path) -> None:
    from seismograd.schema import StepFlag

    silent = block(np.ones((30, 2)), loss=math.nan, flags=StepFlag.NO_LOSS)
    run = open_run(write_run(tmp_path / "silent", [silent]))
    assert training_course(run).trend == Trend.NOT_RECORDED
    nothing = open_run(write_run(tmp_path / "nothing", []))
    assert training_course(nothing).trend == Trend.NOT_RECORDED


def test_the_share_of_the_weights_that_moved_counts_scalars_with_a_gradient(tmp_path: Path) -> None:
    num = 20
    made = block(
        np.ones((num, 2)),
        parameters=classifier(),  # 64 and 80 scalars
        state=[[State.FINITE, State.ZERO]] * num,
        values={
            "update_ratio": np.array([[1e-3, 0.0]] * num),
            "unmoved": np.array([[0.25, np.nan]] * num),
            "zeros": np.array([[32, 80]] * num),
        },
    )
    course = training_course(open_run(write_run(tmp_path / "run", [made])))
    assert course.moved == pytest.approx(64 * 0.5 * 0.75 / (64 + 80))
    assert (course.num_zero, course.num_parameters) == (1, 2)


def test_without_the_probe_the_share_is_not_known(tmp_path: Path) -> None:
    made = block(
        np.ones((20, 2)),
        state=[[State.FINITE, State.ZERO]] * 20,
        values={"update_ratio": np.full((20, 2), np.nan), "unmoved": np.full((20, 2), np.nan)},
    )
    assert math.isnan(training_course(open_run(write_run(tmp_path / "run", [made]))).moved)
