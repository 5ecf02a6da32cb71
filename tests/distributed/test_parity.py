"""`seismograd compare` of a run of one process and one of several says that they are the same, or
what the several do wrong.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import seismograd
from seismograd.i18n import use_language
from seismograd.views.parity.parity_words import details, headline
from seismograd.views.parity.run_parity import Outcome, RunParity, compare_parity
from tests.distributed.parity import CASES, alone
from tests.distributed.processes import HERE, start

pytestmark = [pytest.mark.ranks, pytest.mark.slow]


def spoken(parity: RunParity) -> str:
    return "\n".join([headline(parity), *details(parity)])


# Outcome, factor, codes of the reasons, a line in English and in Chinese, and what is not said.
SAID = {
    "right": (Outcome.SAME, None, [], "the same to rounding: 6 parameters", "只差舍入误差", "×"),
    "right_in_parts": (
        Outcome.SAME,
        None,
        [],
        "the same to rounding: 6 parameters",
        "只差舍入误差",
        "×",
    ),
    "not_divided": (
        Outcome.FACTOR,
        1 / 2,
        ["world_size"],
        "×0.5 is the number of processes of the second run, 2: it sums over them where the other "
        "one averages\nthe losses are the same there",
        "第二次运行的进程数（2）：它对各进程求和，而另一次取平均",
        "a loss counted twice",
    ),
    "summed_loss": (
        Outcome.FACTOR,
        1 / 8,
        ["loss_terms"],
        "×0.125 is what a term counts in the mean of the losses of all processes, 0.0625 and 0.5: "
        "one is a sum where the other is a mean",
        "在所有进程损失均值中的权重",
        "none of the factors",
    ),
    "layer_left_out": (
        Outcome.DIFFERENT,
        None,
        [],
        "2 processes of the second run each have a gradient and weights of their own for 2.bias: "
        "it is left out of the reduction over them",
        "没有参与进程间的归约",
        "the weights differ before this step",
    ),
    "nothing_reduced": (
        Outcome.DIFFERENT,
        None,
        [],
        "the processes of the second run hold different gradients of the same parameters: the "
        "reduction over them is missing",
        "缺少进程间的归约",
        "×0.5 is",
    ),
    "parts_not_divided": (
        Outcome.FACTOR,
        1 / 4,
        ["accumulation", "loss_terms"],
        "the number of micro-batches of the second run, 4: its losses are not divided by it",
        "第二次运行的微批次数（4）",
        "the number of processes",
    ),
    "both_not_divided": (
        Outcome.FACTOR,
        1 / 8,
        ["world_size_and_accumulation"],
        "×0.125 is the number of processes times that of micro-batches of the second run, 2 × 4",
        "第二次运行的进程数与微批次数之积（2 × 4）",
        "the forward pass are not the same",
    ),
}


def test_what_is_wrong_on_several_processes_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGUAGE", "en")
    ended = start([str(HERE / "parity.py"), str(tmp_path), *CASES], 2, tmp_path)
    assert [each.code for each in ended] == [0, 0], ended[0].err[-3000:]
    alone(tmp_path / "alone", 2)
    one = seismograd.open_run(tmp_path / "alone")
    assert SAID.keys() == CASES.keys()
    for name, (outcome, factor, codes, english, chinese, unsaid) in SAID.items():
        parity = compare_parity(one, seismograd.open_run(tmp_path / name))
        assert (parity.outcome, [each.code for each in parity.reasons]) == (outcome, codes), name
        if factor is not None:
            assert parity.factor == pytest.approx(factor, rel=1e-4), name
        assert english in spoken(parity), name
        assert unsaid not in spoken(parity), name
        with use_language("zh"):
            assert chinese in spoken(parity), name

    # the other way round the factor is the inverse
    parity = compare_parity(seismograd.open_run(tmp_path / "not_divided"), one)
    assert parity.factor == pytest.approx(2, rel=1e-4)
    assert "the number of processes of the first run, 2: it sums" in spoken(parity)
    parity = compare_parity(seismograd.open_run(tmp_path / "layer_left_out"), one)
    assert "2 processes of the first run each have" in spoken(parity)
