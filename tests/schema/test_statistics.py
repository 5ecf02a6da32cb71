"""What a statistic is stands in one place, and every table that is derived from it is complete."""

from __future__ import annotations

import pytest

from seismograd.schema import MEASURED_EVERY_TIME, STATISTICS, StatisticKind


def test_each_statistic_says_of_what_kind_it_is() -> None:
    assert all(each.kind is not StatisticKind.UNKNOWN for each in STATISTICS)
    assert len({each.name for each in STATISTICS}) == len(STATISTICS)


def test_each_that_a_backend_measures_has_a_formula() -> None:
    pytest.importorskip("torch")
    from seismograd.measure.reference import OF_GRADIENTS, OF_WEIGHTS
    from seismograd.measure.statistics import FORMULAS

    measured = {each.name for each in STATISTICS if each.subject != "step"}
    # `dead_rows` follows from several iterations.
    assert {formula.name for formula in FORMULAS} == measured - {"dead_rows"}
    assert {*OF_GRADIENTS, *OF_WEIGHTS} == set(FORMULAS)


def test_the_kernel_gives_each_that_is_measured_every_time() -> None:
    pytest.importorskip("torch")
    from seismograd.measure.native.library import NUMBERS
    from seismograd.measure.native.native_backend import PLACES

    assert list(PLACES) == [each.name for each in MEASURED_EVERY_TIME]
    assert len(set(PLACES.values())) == len(PLACES)
    assert {NUMBERS[place] for place in PLACES.values()} == set(NUMBERS) - {"dead_rows"}


def test_what_grows_with_the_gradient_is_divided_by_the_loss_scale() -> None:
    pytest.importorskip("torch")
    from seismograd.capture.loop.iteration import PROPORTIONAL

    assert {"grad_norm", "grad_max", "grad_sum", "gradient_sketch"} == PROPORTIONAL
