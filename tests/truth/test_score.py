"""What counts as right."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("libcst")

from benchmarks.truth.bench import keep
from benchmarks.truth.catalogue import BASES
from benchmarks.truth.edit import Edited
from benchmarks.truth.mutators import MUTATORS
from benchmarks.truth.page import page
from benchmarks.truth.score import Rate, of_rules, score
from benchmarks.truth.trial import Trial, at_culprit, compare

EDITED = Edited("a = 1\nloss.backward()\nopt.step()\n", (2,))


def finding(
    name: str, where: str = "", parameters: tuple[str, ...] = (), excerpt: str = ""
) -> dict[str, object]:
    return {
        "name": name,
        "where": where,
        "parameters": list(parameters),
        "cause": "",
        "advice": "",
        "excerpt": excerpt,
    }


def test_wilson_interval_of_8_in_10() -> None:
    low, high = Rate(8, 10).interval()
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)


def test_nothing_measured_is_no_zero() -> None:
    assert str(Rate(0, 0)) == "–"
    assert Rate(0, 0).interval() == (0.0, 1.0)


@pytest.mark.parametrize(
    ("where", "parameters", "right"),
    [
        ("train.py:2", (), True),
        ("train.py:3", (), True),  # the line beside it
        ("", ("model.fc1.weight",), True),
        ("", ("fc1.weight",), True),
        ("", ("xfc1.weight",), False),
        ("library.py:2", (), False),
    ],
)
def test_culprit(where: str, parameters: tuple[str, ...], right: bool) -> None:
    said = finding("no-gradient", where, parameters)
    assert at_culprit(said, EDITED, ("fc1.weight",), near="") is right


def test_a_parameter_of_the_module_that_the_changed_line_is_about_is_right() -> None:
    edited = Edited("for p in model.embed.parameters():\n    p.require_grad = False\n", (1, 2))
    assert at_culprit(finding("frozen-parameter", "", ("embed.weight",)), edited, (), near="")
    assert not at_culprit(finding("frozen-parameter", "", ("head.weight",)), edited, (), near="")


def trial_of(*names: str) -> Trial:
    mutator = next(m for m in MUTATORS if m.name == "zero_grad forgotten")
    trial = Trial(BASES[0], mutator, outcome="judged")
    found = [finding(n, "train.py:2", excerpt="opt.zero_grad()") for n in names]
    compare(trial, EDITED, (), found)
    return trial


def test_the_first_finding_has_to_be_the_right_one() -> None:
    assert trial_of("missing-zero-grad").first
    late = trial_of("exploding-gradient", "missing-zero-grad")
    assert late.named
    assert not late.first
    assert not trial_of("exploding-gradient").named


def test_precision_counts_every_finding() -> None:
    rows = [trial_of("missing-zero-grad", "dead-units").row(), trial_of().row()]
    got = score(rows, lambda _: {"missing-zero-grad"})
    assert (got.named, got.precision) == (Rate(1, 2), Rate(1, 2))
    assert (got.culprit, got.advice) == (Rate(1, 1), Rate(1, 1))


def test_what_was_thrown_away_is_not_scored_but_counted() -> None:
    rows = [
        trial_of("missing-zero-grad").row(),
        Trial(BASES[1], MUTATORS[0], "does not show").row(),
    ]
    text = page(rows, [], "--half both --write")
    assert "`python -m benchmarks.truth --half both --write`" in text
    assert "2 mutants: 1 judged, 1 does not show" in text
    assert "| forgot_zero_grad | 1/1 = 100%" in text


def test_a_rule_is_wrong_when_it_speaks_of_another_fault_or_of_a_healthy_program() -> None:
    rows = [trial_of("missing-zero-grad").row(), trial_of("dead-units").row()]
    got = of_rules(rows, [{"names": ["dead-units"]}], lambda _: ("missing-zero-grad",))
    assert got["missing-zero-grad"] == (Rate(1, 2), Rate(1, 2), Rate(1, 1))
    assert got["dead-units"] == (Rate(0, 0), Rate(0, 0), Rate(0, 2))


def test_a_result_that_was_kept_is_whole(tmp_path: Path) -> None:
    keep(tmp_path / "trace-1.json", "{}")
    assert [p.name for p in tmp_path.iterdir()] == ["trace-1.json"]
    assert (tmp_path / "trace-1.json").read_text() == "{}"
