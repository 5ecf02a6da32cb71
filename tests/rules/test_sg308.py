from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from seismograd.rules.sg308_partial_window import PartialWindow
from seismograd.schema import Finding, RowBatch
from tests.rules.cutting import codes, cut, result, row_by_row, status
from tests.rules.stream import at, stream
from tests.synthetic import note

wholes = st.integers(2, 9)


def only(made: RowBatch, notes: tuple[object, ...] = ()) -> Finding:
    (finding,), _ = result([made], notes=notes)
    return finding


def epochs(whole: int, left: str, num: int = 3, steps: int = 4) -> str:
    """Epochs of `steps` whole windows and what is left over."""
    return (("b " * whole + "s z ") * steps + left) * num


@given(wholes, st.data())
def test_what_is_thrown_away_is_found_in_the_first_window_of_the_next_epoch(
    whole: int, data: st.DataObject
) -> None:
    left = data.draw(st.integers(1, whole - 1))
    made = stream(epochs(whole, "b " * left + "z "), total=1 / whole)
    finding = only(made)
    assert (finding.code, finding.severity, finding.first_step, finding.last_step) == (
        "SG308",
        "warning",
        4,
        8,
    )
    assert (finding.where, finding.evidence[0].value) == (at("z"), left)
    after, clear = finding.excerpt.splitlines()
    assert (after.split("#")[0].strip(), clear) == ("optimizer.step()", "optimizer.zero_grad()")
    assert result(row_by_row([made]), rules=(PartialWindow,)) == result(
        [made], rules=(PartialWindow,)
    )
    assert codes(cut(made, [5])[0]) == ["SG308"]


@given(wholes, st.data(), st.booleans())
def test_what_leaks_into_the_next_epoch_is_found(
    whole: int, data: st.DataObject, known: bool
) -> None:
    left = data.draw(st.integers(1, whole - 1))
    made = stream(epochs(whole, "b " * left), total=1 / whole if known else float("nan"))
    finding = next(each for each in result([made])[0] if each.code == "SG308")
    assert (finding.first_step, finding.where) == (4, at("s"))
    assert f"the remainder from before ({left}) leaked into it" in finding.cause.render()
    assert result(row_by_row([made]), rules=(PartialWindow,)) == result(
        [made], rules=(PartialWindow,)
    )


@given(wholes, st.data())
def test_a_short_window_that_is_scaled_as_a_whole_one_is_found_when_training_goes_on(
    whole: int, data: st.DataObject
) -> None:
    left = data.draw(st.integers(1, whole - 1))
    made = stream(epochs(whole, "b " * left + "s z "), total=1 / whole)
    finding = only(made)
    assert (finding.code, finding.first_step, finding.last_step) == ("SG308", 4, 9)
    assert finding.evidence[0].value == left / whole
    assert finding.excerpt.startswith(f"(loss / {left}).backward()")
    assert codes(cut(made, [5])[0]) == []
    assert codes(cut(made, [6])[0]) == ["SG308"]


@given(wholes)
def test_a_first_window_that_is_short_is_found_in_the_third(whole: int) -> None:
    made = stream("b s z " + ("b " * whole + "s z ") * 5, total=1 / whole)
    assert only(made).first_step == 0
    assert codes(cut(made, [4])[0]) == ["SG308"]


@given(wholes, st.data())
def test_a_short_window_that_is_scaled_by_its_own_size_is_healthy(
    whole: int, data: st.DataObject
) -> None:
    left = data.draw(st.integers(1, whole - 1))
    totals = ([1 / whole] * whole * 4 + [1 / left] * left) * 3
    assert codes(stream(epochs(whole, "b " * left + "s z "), total=totals)) == []


@given(wholes, st.integers(1, 12))
def test_whole_windows_are_healthy(whole: int, steps: int) -> None:
    assert codes(stream(epochs(whole, "", steps=steps), total=1 / whole)) == []


def test_a_schedule_of_longer_windows_is_healthy() -> None:
    calls = "".join(("b " * num + "s z ") * 5 for num in (2, 3, 4))
    assert codes(stream(calls, total=[1 / num for num in (2, 3, 4) for _ in range(5 * num)])) == []
    assert codes(stream(calls, total=float("nan"))) == []


def test_a_backward_for_something_else_in_every_window_is_healthy() -> None:
    assert codes(stream("b z b b b b s z " * 12, total=1 / 4)) == []


def test_clearing_after_a_bad_loss_is_healthy() -> None:
    calls = "b b b b s z " * 4 + "b z " + "b b b b s z " * 4
    assert codes(stream(calls, total=1 / 4, loss=[1.0] * 16 + [float("nan")] + [1.0] * 16)) == []


def test_what_is_left_at_the_end_is_a_note() -> None:
    made = stream(epochs(4, ""), total=1 / 4)
    finding = only(
        made, (note(kind="tail", iteration=12, count=3, optimizer=0, where="train.py:12"),)
    )
    assert (finding.code, finding.severity, finding.where) == ("SG308", "info", "train.py:12")
    assert (
        result(
            [made], notes=(note(kind="tail", iteration=12, count=4, optimizer=0, where=at("b")),)
        )[0]
        == ()
    )


def test_the_end_of_a_loop_that_clears_before_each_step_is_not_found() -> None:
    """As one that looks at the gradient behind each step, for a curvature (L-BFGS)."""
    made = stream("z b b b b s z b b " * 12, total=([1 / 4] * 4 + [1 / 2] * 2) * 12)
    left = (note(kind="tail", iteration=12, count=2, optimizer=0, where=at("b")),)
    assert result([made], notes=left)[0] == ()


def test_two_steps_are_not_evaluated() -> None:
    assert status(stream("z b s z b s"), "SG308").reason.render() == "needs 3 steps, has 2"
