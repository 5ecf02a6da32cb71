"""SG312 on real training programs, and on hand-made loops however they are cut."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from seismograd.diagnosis.whole_record import diagnose  # noqa: E402
from seismograd.rules.sg312_uneven_windows import UnevenWindows  # noqa: E402
from tests.rules.cutting import cut  # noqa: E402
from tests.rules.programs import Listen, Program, adam, batch, mlp, sgd  # noqa: E402
from tests.rules.stream import stream  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402


def counted(accumulate: int, divided: bool) -> Program:
    """One counter for the whole training."""

    def program(listen: Listen) -> None:
        model = mlp(3, nn.Tanh)
        optimizer = adam(model)
        with listen(model, optimizer):
            for step in range(72):
                loss = F.cross_entropy(model(batch(step)[0]), batch(step)[1])
                (loss / accumulate if divided else loss).backward()
                if step % accumulate:
                    optimizer.step()
                    optimizer.zero_grad()

    return program


def for_each_epoch(listen: Listen) -> None:
    """The number of the batch begins anew in each epoch."""
    model = mlp(3, nn.Tanh)
    optimizer = sgd(model, lr=0.02)
    with listen(model, optimizer):
        for epoch in range(5):
            optimizer.zero_grad()
            for i in range(1, 18):
                F.cross_entropy(
                    model(batch(17 * epoch + i)[0]), batch(17 * epoch + i)[1]
                ).backward()
                if i % 4 != 0:
                    optimizer.step()
                    optimizer.zero_grad()


def either(first: int, second: int) -> Program:
    """Two conditions for one step."""

    def program(listen: Listen) -> None:
        net = mlp(3, nn.Tanh)
        opt = adam(net)
        with listen():
            for i in range(72):
                F.cross_entropy(net(batch(i)[0]), batch(i)[1]).backward()
                if (i + 1) % first == 0 or (i + 1) % second == 0:
                    opt.step()
                    opt.zero_grad()

    return program


@pytest.mark.parametrize(
    ("conditions", "sizes"), [((2, 3), "2, 1, 1, 2, 2, 1, 1, 2"), ((3, 4), "3, 1, 2, 2, 1, 3")]
)
def test_two_conditions_are_told_from_the_wrong_one(
    conditions: tuple[int, int], sizes: str, tmp_path: Path
) -> None:
    (finding,) = judged(either(*conditions), tmp_path / "run")
    assert finding.code == "SG312"
    assert sizes in finding.cause.render()
    assert "more than one condition" in finding.cause.render()
    assert finding.excerpt.startswith(f"if (i + 1) % {conditions[0]} == 0:\n    opt.step()")


@pytest.mark.parametrize(
    "program", [counted(4, False), counted(3, True), for_each_epoch], ids=["4", "3", "epochs"]
)
def test_a_condition_the_wrong_way_round_is_the_only_finding(
    program: Program, tmp_path: Path
) -> None:
    (finding,) = judged(program, tmp_path / "run")
    assert finding.code == "SG312"
    assert "test_sg312.py:" in finding.where
    assert "1, 1" in finding.cause.render() or "2, 1" in finding.cause.render()


def found(loop: str) -> list[str]:
    return [each.code for each in diagnose([stream(loop)], [UnevenWindows]).findings()]


@pytest.mark.parametrize(
    "loop",
    [
        "bsz" * 40,
        "bbbbsz" * 12,
        ("bbbbsz" * 3 + "bsz") * 6,  # the tail of each epoch
        "bsz" * 20 + "bbsz" * 20,
        ("bbsz" * 2 + "bsz") * 20,
        ("bbbsz" * 2 + "bbsz") * 20,
        "".join("b" * (1 + (i * i // 3) % 2) + "sz" for i in range(60)),  # by their own measure
        "bsz" * 9 + "bbsz" + "bsz" * 4 + "bbsz" + "bsz" * 7 + "bbsz" + "bszbbsz" + "bsz" * 3,
    ],
)
def test_windows_that_are_equal_but_for_a_tail_are_healthy(loop: str) -> None:
    assert found(loop) == []


@given(st.sets(st.integers(1, 23)))
def test_it_does_not_depend_on_the_cut(cuts: set[int]) -> None:
    made = stream(("bbsz" + "bsz" * 2) * 8)
    whole = diagnose([made], [UnevenWindows]).findings()
    assert [each.code for each in whole] == ["SG312"]
    assert diagnose(cut(made, cuts), [UnevenWindows]).findings() == whole
