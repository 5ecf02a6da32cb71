"""Two runs side by side: the numbers are those of the records, and what is not finite in one is
seen first.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from seismograd.cli import main
from seismograd.record.reader import open_run
from seismograd.views.comparison_text import FINDINGS
from seismograd.views.run_comparison import compare_runs
from tests.synthetic import block, finding, make_parameters, write_run
from tests.views.page import made


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGUAGE", "en")


def test_medians_and_ratios_are_those_of_the_steps_that_both_have(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one, two = rng.uniform(1, 2, (41, 3)), rng.uniform(1, 2, (60, 3))
    found = compare_runs(
        open_run(made.simple(tmp_path / "a", one)), open_run(made.simple(tmp_path / "b", two))
    )
    assert (found.num_rows, found.num_looked_at) == (41, 41)
    for each in found.differences:
        column = [parameter.name for parameter in found.first.run.parameters].index(each.name)
        assert each.first == np.median(one[:, column])
        assert each.second == np.median(two[:41, column])
        assert each.ratio == each.first / each.second
    ratios = [abs(np.log(each.ratio)) for each in found.differences]
    assert ratios == sorted(ratios, reverse=True)


def test_what_is_not_finite_in_one_comes_first(tmp_path: Path) -> None:
    one = np.full((20, 3), 1.0)
    two = one * [100.0, 1.0, 1.0]
    one[7, 2] = np.nan
    found = compare_runs(
        open_run(made.simple(tmp_path / "a", one)), open_run(made.simple(tmp_path / "b", two))
    )
    assert [each.name for each in found.differences] == [
        "net.1.weight",
        "net.0.weight",
        "net.0.bias",
    ]
    assert (found.differences[0].first_nonfinite, found.differences[0].second_nonfinite) == (1, 0)


def test_a_network_with_layers_put_in_is_compared_layer_by_layer(tmp_path: Path) -> None:
    """Names of an `nn.Sequential` are numbers: 3.weight may be another layer in the other run."""
    plain = make_parameters(
        names=[f"{at}.weight" for at in (0, 2, 4, 6)],
        shapes=[(8, 4), (8, 8), (8, 8), (2, 8)],
    )
    normed = make_parameters(
        names=[f"{at}.weight" for at in (0, 1, 3, 4, 6, 7, 9)],
        shapes=[(8, 4), (8,), (8, 8), (8,), (8, 8), (8,), (2, 8)],
    )
    one = made.simple(tmp_path / "a", np.ones((9, 4)), parameters=plain)
    two = made.simple(tmp_path / "b", np.arange(1.0, 8) * np.ones((9, 7)), parameters=normed)
    found = compare_runs(open_run(one), open_run(two))
    assert found.by_order
    assert {each.names: each.second for each in found.differences} == {
        "0.weight": 1.0,
        "2.weight ↔ 3.weight": 3.0,
        "4.weight ↔ 6.weight": 5.0,
        "6.weight ↔ 9.weight": 7.0,
    }
    assert (found.only_first, found.only_second) == ((), ("1.weight", "4.weight", "7.weight"))


def test_runs_with_most_weights_in_common_are_compared_by_name(tmp_path: Path) -> None:
    names = ["body.0.weight", "body.1.weight", "head.weight"]
    shapes = [(4, 4), (4, 4), (2, 4)]
    one, two = (
        made.simple(
            tmp_path / str(classes),
            np.ones((9, 3)),
            parameters=make_parameters(names=names, shapes=[*shapes[:2], (classes, 4)]),
        )
        for classes in (2, 5)
    )
    found = compare_runs(open_run(one), open_run(two))
    assert not found.by_order
    assert sorted(each.names for each in found.differences) == names[:2]
    assert (found.only_first, found.only_second) == (("head.weight",), ("head.weight",))


def test_runs_without_anything_in_common_are_compared_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", [])
    write_run(
        tmp_path / "b",
        [block([[1.0]] * 3, parameters=make_parameters(names=("other",)))],
        findings=[finding()],
    )
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    said = capsys.readouterr().out
    assert "no parameters or no steps in common" in said
    assert "Found only in the second run: error SG201" in said
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["only_in"] == [[], ["other"]]
    assert content["runs"][0]["loss"] == "nan"
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--format", "xml"]) == 2


def test_a_run_that_is_compared_with_itself_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made.simple(tmp_path / "a", np.ones((3, 2)))
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "." / "a")]) == 0
    assert "both arguments name the same run" in capsys.readouterr().err


def test_the_table_names_the_most_different(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made.troubled(tmp_path / "a")
    made.troubled(tmp_path / "b", 90)
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    said = capsys.readouterr().out
    assert "Gradients of the parameters that both runs have (12)" in said
    assert "net.2.weight" in said


def test_a_run_without_steps_has_no_findings_rather_than_none(tmp_path: Path) -> None:
    looked_at = open_run(write_run(tmp_path / "a", [block(np.ones((3, 2)))]))
    killed = open_run(write_run(tmp_path / "b", [], ended=False))
    comparison = compare_runs(looked_at, killed)
    assert [FINDINGS.cell(side) for side in (comparison.first, comparison.second)] == ["none", "–"]
