"""What the page is answered is what the record holds."""

from __future__ import annotations

import base64
import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from seismograd.diagnosis.verdict import recorded_verdict
from seismograd.record.reader import open_run
from seismograd.record.writer import Writer
from seismograd.schema import Conclusion, Fact, FactKind, State
from seismograd.views.page_api.heat_codes import ABSENT, LIMIT, NONFINITE, NOT_MEASURED, ZERO
from seismograd.views.page_api.packing import pack, unpack
from seismograd.views.page_api.run_source import RunSource, open_source
from seismograd.views.report.bundle import bundle
from tests.rules.made import chain
from tests.synthetic import block, finding, info, write_run
from tests.views.page import made
from tests.views.test_module_signals import NAMES, layered

NUMBERS = ("start", "stop", "width", "column", "row", "index")
QUESTIONS = (
    "meta",
    "heat",
    "scalars",
    "line",
    "step",
    "histogram",
    "lanes",
    "signals",
    "seismogram",
    "element",
    "picture",
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> RunSource:
    return open_source(open_run(made.troubled(tmp_path_factory.mktemp("source") / "run")))


@given(
    st.dictionaries(
        st.text(max_size=5), st.integers() | st.text(max_size=5) | st.floats(-1e9, 1e9), max_size=4
    ),
    st.lists(
        st.sampled_from(["<u1", "<i2", "<i4", "<f4", "<f8"]).flatmap(
            lambda dtype: st_numpy.arrays(
                dtype, st_numpy.array_shapes(max_dims=2, max_side=5, min_side=0)
            )
        ),
        max_size=4,
    ),
)
def test_what_is_packed_is_unpacked(header: dict[str, Any], arrays: list[np.ndarray]) -> None:
    header.pop("arrays", None)
    named = {f"a{index}": array for index, array in enumerate(arrays)}
    found, unpacked = unpack(pack(header, named))
    assert found == header
    for name, array in named.items():
        assert unpacked[name].dtype == array.dtype
        np.testing.assert_array_equal(unpacked[name], array)


@given(
    st.sampled_from(QUESTIONS),
    st.dictionaries(st.sampled_from(NUMBERS), st.integers(-(2**70), 2**70).map(str)),
)
def test_no_number_in_a_question_breaks_the_answer(
    source: RunSource, question: str, given: dict[str, str]
) -> None:
    header, arrays = unpack(source.answer(question, given))
    assert header
    for array in arrays.values():
        assert array.size <= 100_000


@pytest.mark.parametrize(
    ("question", "given"),
    [
        ("nothing", {}),
        ("heat", {"which": "x"}),
        ("heat", {"statistic": "../x"}),
        ("step", {"row": "1e3"}),
        ("step", {"row": ""}),
    ],
)
def test_a_question_that_does_not_exist_is_an_error(
    source: RunSource, question: str, given: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match=r"no such question|invalid literal"):
        source.answer(question, given)


def test_a_heat_map_of_single_steps_is_the_record(source: RunSource) -> None:
    run = source.run
    _, arrays = unpack(source.heat(0, run.num_rows, run.num_rows))
    norm, states, codes = run.series("grad_norm").T, run.states.T, arrays["codes"]
    finite = states == State.FINITE
    np.testing.assert_allclose(10 ** (codes[finite] / 1000), norm[finite], rtol=0.0012)
    for state, code in ((State.NONFINITE, NONFINITE), (State.ZERO, ZERO), (State.ABSENT, ABSENT)):
        assert (states == state).any()
        np.testing.assert_array_equal(codes == code, states == state)
    assert not (codes == NOT_MEASURED).any()
    assert np.abs(codes[finite]).max() <= LIMIT


def test_a_step_has_the_numbers_of_the_record(source: RunSource) -> None:
    for row in (0, made.BAD_STEP, source.run.num_rows - 1):
        header, arrays = unpack(source.step(row))
        np.testing.assert_array_equal(arrays["states"], source.run.states[row])
        for name in ("grad_norm", "zeros", "update_ratio"):
            np.testing.assert_array_equal(arrays[name], source.run.series(name)[row])
        assert header["step"] == row


def test_the_line_over_depth_is_that_of_the_last_step_that_is_mostly_finite(
    source: RunSource,
) -> None:
    header, _ = unpack(source.step(10))
    fit: Any = header["fit"]
    assert fit["step"] == 10
    assert 10 ** -fit["slope"] == pytest.approx(0.5, rel=0.1)
    # one of the six has no gradient yet
    assert fit["ends"]["gain"] == pytest.approx(0.5 ** (5 / 4), rel=0.1)
    header, _ = unpack(source.step(made.BAD_STEP))
    fit = header["fit"]
    assert fit["step"] == made.BAD_STEP - 1
    assert fit["ends"]["gain"] == pytest.approx(0.5, rel=0.1)


def test_the_page_a_finding_and_the_table_tell_one_pair_of_norms(tmp_path: Path) -> None:
    norms = chain(10, 0.14, noise=0.2)
    shown = open_source(open_run(write_run(tmp_path / "run", [block(norms)])))
    (found,) = unpack(shown.meta())[0]["findings"]
    header, arrays = unpack(shown.step(found["row"]))
    ends: Any = header["fit"]["ends"]
    names = [each.name for each in shown.run.parameters]
    for end, evidence in zip(("first", "last"), found["evidence"][:2], strict=True):
        assert (ends[end], ends[f"{end}_norm"]) == (evidence["parameter"], evidence["value"])
        assert arrays["grad_norm"][names.index(ends[end])] == evidence["value"]
    assert ends["first_norm"] == pytest.approx(ends["last_norm"] * ends["gain"] ** 9)
    assert f"by {ends['gain']:.2g} on average" in found["cause"]["en"]


@pytest.mark.parametrize("num_rows", [1, 30, 31, 95, 120])
def test_the_epochs_that_a_program_counts_are_marked_where_they_begin(
    tmp_path: Path, num_rows: int
) -> None:
    made_of = block(np.ones((num_rows, 1)), epoch=np.arange(num_rows) // 30)
    shown = open_source(open_run(write_run(tmp_path / "run", [made_of])))
    header, _ = unpack(shown.meta())
    assert header["epochs"] == [row for row in (30, 60, 90) if row < num_rows]


@pytest.mark.parametrize(
    ("epochs", "per_epoch", "marked"),
    [(4, 30, [30, 60, 90]), (3, 30, []), (2, 119, [119]), (1, 120, []), (math.nan, 30, [])],
)
def test_the_epochs_of_a_data_loader_are_marked_where_they_fill_the_run(
    tmp_path: Path, epochs: float, per_epoch: float, marked: list[int]
) -> None:
    writer = Writer(tmp_path / "run", info())
    writer.observe(block(np.ones((120, 1))))
    writer.learn(
        Fact(FactKind.EPOCHS, 119, values={"epochs": epochs, "per_epoch": float(per_epoch)})
    )
    writer.close()
    shown = open_source(open_run(tmp_path / "run"))
    assert unpack(shown.meta())[0]["epochs"] == marked


def test_a_histogram_has_the_counts_of_the_record(source: RunSource) -> None:
    rows, exponents = source.run.samples("exponents")
    header, arrays = unpack(source.histogram(3, 0, source.run.num_rows, 400))
    assert header["every"] == 1
    np.testing.assert_array_equal(arrays["rows"], rows)
    np.testing.assert_array_equal(arrays["bins"], exponents[:, 3])
    header, arrays = unpack(source.histogram(-1, 0, source.run.num_rows, 8))
    assert header["every"] == 3
    np.testing.assert_array_equal(arrays["rows"], rows[::3])
    np.testing.assert_array_equal(arrays["bins"], np.nansum(exponents, axis=1)[::3])


def test_what_parameters_have_in_common_is_told_once(source: RunSource) -> None:
    header, arrays = unpack(source.meta())
    told: Any = [
        {**header["alike"][kind], "name": name}
        for name, kind in zip(header["names"], arrays["kind"], strict=True)
    ]  # type: ignore
    assert [(each["name"], tuple(each["shape"]), each["numel"]) for each in told] == [
        (each.name, each.shape, each.numel) for each in source.run.parameters
    ]
    assert len(header["alike"]) == 2  # type: ignore[arg-type]
    assert arrays["depth"].tolist() == [each.depth for each in source.run.parameters]


@pytest.mark.parametrize(
    ("concludes", "ends", "how"),
    [(True, True, "end"), (False, True, "running"), (True, False, "running")],
)
def test_a_long_run_says_whether_its_findings_are_final(
    tmp_path: Path, concludes: bool, ends: bool, how: str
) -> None:
    writer = Writer(tmp_path / "run", info())
    writer.observe(block(np.ones((2, 2))))
    if concludes:
        writer.conclude(Conclusion((finding(),)))
    else:
        writer.finding(finding())
    (writer.close if ends else writer.abandon)()
    verdict = recorded_verdict(open_run(tmp_path / "run"))
    assert (verdict.judged, len(verdict.findings)) == (how, 1)


def test_a_heat_map_of_very_many_parameters_has_fewer_columns(tmp_path: Path) -> None:
    run = open_run(made.simple(tmp_path / "run", np.ones((400, 5000)), sample_rows=[]))
    _, arrays = unpack(open_source(run, going_on=True).heat(0, 400, 400))
    assert arrays["codes"].shape == (5000, 200)
    assert (arrays["codes"] == 0).all()


def test_what_is_told_of_a_run_names_no_folder(tmp_path: Path) -> None:
    path = made.troubled(tmp_path / "secret_folder" / "run")
    assert b"secret_folder" not in open_source(open_run(path)).meta()


def sampled(path: Path) -> RunSource:
    """A run of 30 steps whose modules were sampled at steps 1 and 20, there with a NaN."""
    writer = Writer(path, info())
    late = layered(20, factor=0.1)
    late.values[2, NAMES.index("signal_rms")] = math.nan
    for batch in (layered(1), late):
        writer.sampled(batch)
    writer.observe(block(np.ones((30, 2))))
    writer.close()
    return open_source(open_run(path))


@pytest.mark.parametrize(("row", "step"), [(0, 1), (10, 1), (11, 20), (29, 20), (99, 20)])
def test_signals_are_those_of_the_nearest_sample(tmp_path: Path, row: int, step: int) -> None:
    shown = sampled(tmp_path / "run")
    assert unpack(shown.meta())[0]["signals"] is True
    header, arrays = unpack(shown.signals(row))
    assert header["step"] == step
    assert [name for name, _ in header["modules"]] == [f"net.{at}" for at in range(10)]  # type: ignore
    assert arrays["rms"].tolist() == [0.5] * 10
    assert not arrays["saturated.measured"].any()
    assert arrays["signal_rms.measured"].all()
    assert np.isnan(arrays["signal_rms"]).tolist() == [step == 20 and at == 2 for at in range(10)]
    said: Any = header["said"]
    assert set(said[0]) == {"en", "zh"}
    if step == 1:
        assert arrays["factor"][1:3] == pytest.approx([0.5, 0.2])
        assert any("sigmoid 0.5 × weights 0.2" in each["en"] for each in said)


def test_a_run_that_was_not_sampled_has_no_signals(source: RunSource) -> None:
    assert unpack(source.meta())[0]["signals"] is False
    assert unpack(source.signals(0)) == ({"step": -1, "modules": [], "said": []}, {})


def test_a_report_holds_the_samples_of_modules(tmp_path: Path) -> None:
    packed = gzip.decompress(base64.b64decode(bundle(sampled(tmp_path / "run"))))
    header, arrays = unpack(packed)
    assert header["signal_rows"] == [1, 20]
    answers: Any = header["answers"]
    start, length = answers["signals/20"]
    held, numbers = unpack(arrays["bytes"][start : start + length].tobytes())
    assert held["step"] == 20
    assert np.isnan(numbers["signal_rms"][2])
