"""One scalar over the steps: every value, its extremes, its course."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.errors import SeismogradError
from seismograd.i18n import use_language
from seismograd.settings.elements import parse_element
from seismograd.views import element_series
from seismograd.views.sparkline import sparkline
from tests.views.golden import assert_golden, rendered
from tests.views.samples import small_net

WANTED = (parse_element("fc2.weight[0,0]"),)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_an_element_in_words(tmp_path: Path, lang: str) -> None:
    elements = element_series.read_elements(small_net(tmp_path / "run"), WANTED)
    assert_golden(f"element-{lang}", rendered(element_series.table(elements), lang))
    with use_language(lang):
        assert_golden(f"element-plain-{lang}", element_series.plain(elements) + "\n")


def test_values_are_given_to_six_digits(tmp_path: Path) -> None:
    run = small_net(tmp_path / "run", 2)
    elements = element_series.read_elements(run, WANTED)
    values = element_series.ScalarSeries("x", np.array([0.123456789, 1e-12 / 3]), np.ones(2))
    assert "0.123457" in element_series.plain(
        element_series.ElementSeries(run, elements.iterations, (values,))
    )
    assert "3.33333e-13" in element_series.plain(
        element_series.ElementSeries(run, elements.iterations, (values,))
    )


def test_json_has_null_where_nothing_was_measured(tmp_path: Path) -> None:
    run = small_net(tmp_path / "run")
    read = element_series.read_elements(run, WANTED).series[0]
    unseen = element_series.ScalarSeries(read.name, read.values, np.array([1.0, 0.0, 1.0]))
    content = json.loads(
        element_series.as_json(
            element_series.ElementSeries(run, run.steps["iteration"], (unseen,))
        ),
        parse_constant=pytest.fail,
    )
    assert content["elements"] == [{"name": "fc2.weight[0,0]", "values": [0.0125, None, "nan"]}]


def test_another_way_of_writing_it_is_the_same_element(tmp_path: Path) -> None:
    run = small_net(tmp_path / "run")
    assert (
        element_series.read_elements(run, (parse_element("fc2.weight[-10][-256]"),)).series[0].name
        == "fc2.weight[0,0]"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "fc1.weight[0,0]",
            "fc1.weight[0,0] was not recorded in this run · record it with: "
            "seismograd run --element 'fc1.weight[0,0]' train.py",
        ),
        (
            "fc1.wieght[0,0]",
            "there is no parameter named fc1.wieght · the closest names are fc1.weight",
        ),
        (
            "fc1.weight[0]",
            "fc1.weight[0]: the shape of fc1.weight is [256, 784] · expected 2 indices, got 1",
        ),
        (
            "fc1.weight[0,784]",
            "fc1.weight[0,784] is out of range: the shape of fc1.weight is [256, 784]",
        ),
    ],
)
def test_what_cannot_be_shown_is_answered_with_the_mend(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(SeismogradError) as caught:
        element_series.read_elements(small_net(tmp_path / "run"), (parse_element(text),))
    assert caught.value.line().startswith(says)


def test_a_sparkline_rises_with_its_values() -> None:
    assert sparkline(np.arange(8.0), np.ones(8)) == "▁▂▃▄▅▆▇█"


def test_a_sparkline_keeps_a_single_spike() -> None:
    values = np.zeros(10_000)
    values[7_123] = 1.0
    assert sparkline(values, np.ones(10_000)).count("█") == 1


@given(st.lists(st.floats(), max_size=300), st.integers(1, 80), st.randoms(use_true_random=False))
def test_a_sparkline_marks_what_is_not_finite_and_never_grows_too_long(
    values: list[float], width: int, random: object
) -> None:
    seen = np.array([random.random() < 0.8 for _ in values], np.float64)  # type: ignore[attr-defined]
    drawn = sparkline(np.array(values, np.float64), seen, width)
    assert len(drawn) == min(width, len(values))
    anything_wrong = any(
        mark and not np.isfinite(value) for value, mark in zip(values, seen, strict=True)
    )
    assert ("!" in drawn) == anything_wrong
