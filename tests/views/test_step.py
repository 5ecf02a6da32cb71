"""What `show` says of a step: the exact plain form, tables that fit, states that are never
mixed.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from seismograd.errors import SeismogradError
from seismograd.i18n import use_language
from seismograd.record.parameter_selection import find_parameters
from seismograd.schema import StepFlag
from seismograd.views.formats import step_json, step_plain, step_table
from seismograd.views.step import RecordedStep, find_row, read_step
from seismograd.views.text_layout import cell_width
from tests.synthetic import block, make_parameters, note, write_run
from tests.views.golden import assert_golden, rendered
from tests.views.samples import NAMES, small_net, states_of_all_kinds, without_steps

LANGUAGES = ("en", "zh")

AS_IN_THE_ISSUE = """\
--- Epoch 0 Gradients ---
参数: fc1.weight           | 梯度形状: torch.Size([256, 784]) | 梯度范数: 1.892396
参数: fc1.bias             | 梯度形状: torch.Size([256]) | 梯度范数: 0.061033
参数: fc2.weight           | 梯度形状: torch.Size([10, 256]) | 梯度范数: 1.025704
参数: fc2.bias             | 梯度形状: torch.Size([10]) | 梯度范数: 0.129712
epoch 0, loss=2.3094"""


def first_step(path: Path) -> RecordedStep:
    run = small_net(path)
    return read_step(run, 0, range(len(run.parameters)))


def test_the_chinese_plain_form_is_that_in_which_the_need_was_written(tmp_path: Path) -> None:
    with use_language("zh"):
        assert step_plain.render(first_step(tmp_path / "run")) == AS_IN_THE_ISSUE


def test_the_plain_form_is_what_the_format_string_of_the_issue_gives(tmp_path: Path) -> None:
    step = first_step(tmp_path / "run")
    with use_language("zh"):
        lines = step_plain.render(step).splitlines()[1:-1]
    for gradient, line in zip(step.gradients, lines, strict=True):
        sizes = f"torch.Size([{', '.join(map(str, gradient.parameter.shape))}])"
        assert line == (
            f"参数: {gradient.parameter.name:<20} | 梯度形状: {sizes!s:<15} | 梯度范数: "
            f"{gradient.norm:.6f}"
        )


def test_an_epoch_that_the_run_recorded_is_the_epoch_shown(tmp_path: Path) -> None:
    run = small_net(tmp_path / "run", epoch=[0, 0, 4])
    with use_language("zh"):
        text = step_plain.render(read_step(run, 2, [0]))
    assert text.startswith("--- Epoch 4 Gradients ---\n")
    assert text.splitlines()[-1].startswith("epoch 4, loss=")


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_table_of_a_step(tmp_path: Path, lang: str) -> None:
    assert_golden(f"step-{lang}", rendered(step_table.render(first_step(tmp_path / "run")), lang))


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_table_of_one_parameter_shows_how_its_scalars_are_spread(
    tmp_path: Path, lang: str
) -> None:
    run = small_net(tmp_path / "run")
    assert_golden(
        f"one-parameter-{lang}", rendered(step_table.render(read_step(run, 2, [0])), lang)
    )


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_state_has_its_word(tmp_path: Path, lang: str) -> None:
    run = states_of_all_kinds(tmp_path / "run")
    step = read_step(run, 0, range(len(run.parameters)))
    assert_golden(f"states-{lang}", rendered(step_table.render(step), lang))
    with use_language(lang):
        assert_golden(f"states-plain-{lang}", step_plain.render(step) + "\n")


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_no_line_of_a_table_is_wider_than_the_terminal(
    tmp_path: Path, lang: str, width: int
) -> None:
    run = states_of_all_kinds(tmp_path / "run")
    text = rendered(step_table.render(read_step(run, 0, range(len(run.parameters)))), lang, width)
    assert max(map(cell_width, text.splitlines())) <= width
    for parameter in run.parameters:
        # a name may be folded where it does not fit
        assert parameter.name in text.replace("\n", "") or width < 80


def test_a_wide_terminal_shows_every_column(tmp_path: Path) -> None:
    header = rendered(step_table.render(first_step(tmp_path / "run")), width=120).splitlines()[2]
    assert header.split() == [
        "parameter",
        "shape",
        "scalars",
        "norm",
        "RMS",
        "max",
        "|g|",
        "zeros",
        "NaN/Inf",
        "state",
    ]


def test_the_state_is_told_without_colour(tmp_path: Path) -> None:
    run = states_of_all_kinds(tmp_path / "run")
    text = rendered(step_table.render(read_step(run, 0, range(len(run.parameters)))))
    for word in ("non-finite", "no gradient", "all zero", "not measured", "finite"):
        assert word in text


def test_json_has_every_number_and_no_language(tmp_path: Path) -> None:
    step = first_step(tmp_path / "run")
    with use_language("zh"):
        chinese = step_json.render(step)
    assert chinese == step_json.render(step)
    content = json.loads(chinese, parse_constant=pytest.fail)
    assert [each["norm"] for each in content["parameters"]] == [
        1.892396,
        0.061033,
        1.025704,
        0.129712,
    ]
    assert content["parameters"][0]["rms"] == pytest.approx(1.892396 / np.sqrt(256 * 784))
    assert (content["step"], content["epoch"], content["loss"]) == (0, None, 2.3094)


def test_json_tells_what_is_not_finite_from_what_was_not_measured(tmp_path: Path) -> None:
    run = states_of_all_kinds(tmp_path / "run")
    content = json.loads(step_json.render(read_step(run, 0, range(5))), parse_constant=pytest.fail)
    told = [(each["state"], each["norm"]) for each in content["parameters"]]
    assert told == [
        ("non-finite", "nan"),
        ("non-finite", "inf"),
        ("absent", None),
        ("zero", 0.0),
        ("not measured", None),
    ]
    assert content["loss"] == "nan"


def test_a_loss_that_nobody_saw_is_not_a_loss_that_is_nan(tmp_path: Path) -> None:
    run = small_net(tmp_path / "run", loss=[1.0, np.nan, np.nan], flags=[0, StepFlag.NO_LOSS, 0])
    assert read_step(run, 1, [0]).loss is None
    assert "not measured" in rendered(step_table.render(read_step(run, 1, [0])))
    assert "loss nan" in rendered(step_table.render(read_step(run, 2, [0]))).lower()


def test_steps_go_by_their_number_where_some_were_left_out(tmp_path: Path) -> None:
    from seismograd.record.reader import open_run

    made = block([[1.0], [2.0], [3.0]], iteration=[10, 20, 30])
    run = open_run(write_run(tmp_path / "run", [made]))
    assert (find_row(run, 20), find_row(run, None)) == (1, 2)
    with pytest.raises(SeismogradError, match="step 24 was not recorded") as caught:
        find_row(run, 24)
    assert "20" in caught.value.line()


@pytest.mark.parametrize("step", [-1, 3, 10**12])
def test_a_step_beyond_the_run_is_answered_with_its_range(tmp_path: Path, step: int) -> None:
    with pytest.raises(SeismogradError) as caught:
        find_row(small_net(tmp_path / "run"), step)
    assert caught.value.line() == f"there is no step {step} · the run contains steps 0 to 2"


def test_a_run_without_steps_says_so(tmp_path: Path) -> None:
    with pytest.raises(SeismogradError, match="no optimizer step was recorded"):
        find_row(without_steps(tmp_path / "run"), None)


def test_parameters_are_chosen_by_glob_in_their_order(tmp_path: Path) -> None:
    run = small_net(tmp_path / "run")
    assert find_parameters(run.parameters, ()) == (0, 1, 2, 3)
    assert find_parameters(run.parameters, ("fc2.*", "*.bias")) == (1, 2, 3)
    assert find_parameters(run.parameters, ("fc1.weight",)) == (0,)


def test_a_glob_that_matches_nothing_is_answered_with_the_nearest_names(tmp_path: Path) -> None:
    with pytest.raises(SeismogradError) as caught:
        find_parameters(small_net(tmp_path / "run").parameters, ("fc1.wieght",))
    assert caught.value.line().startswith(
        "no parameter matches 'fc1.wieght' · the closest names are fc1.weight"
    )


def test_a_parameter_that_was_not_there_yet_was_not_measured(tmp_path: Path) -> None:
    from seismograd.record.reader import open_run

    before = block([[1.0]], parameters=make_parameters(names=NAMES[:1], shapes=[(2, 2)]))
    after = block(
        [[1.0, 2.0]],
        parameters=make_parameters(names=NAMES[:2], shapes=[(2, 2), (2,)]),
        first_iteration=1,
    )
    run = open_run(write_run(tmp_path / "run", [before, after]))
    states = [gradient.state.name for gradient in read_step(run, 0, (0, 1)).gradients]
    assert states == ["FINITE", "NOT_MEASURED"]
    assert read_step(run, 0, (1,)).histogram is None


def test_what_the_plain_form_rounds_to_zero_is_named(tmp_path: Path) -> None:
    run = states_of_all_kinds(tmp_path / "run")
    assert step_plain.rounded_to_zero(read_step(run, 0, range(len(run.parameters)))) == (
        "嵌入.权重",
    )


def test_why_there_is_no_step_is_what_the_session_noted(tmp_path: Path) -> None:
    from seismograd.record.reader import open_run

    run = open_run(write_run(tmp_path / "run", [], notes=[note(kind="no_step", iteration=-1)]))
    with pytest.raises(SeismogradError, match="a hook failed"):
        find_row(run, None)


@pytest.mark.parametrize(
    ("num_steps", "remark"),
    [
        (1, "No optimizer took this step: the script changed the weights by hand."),
        (2, "Beside the step of an optimizer, the script changed weights by hand."),
    ],
)
def test_weights_changed_by_hand_are_told_from_those_of_an_optimizer(
    tmp_path: Path, num_steps: int, remark: str
) -> None:
    from seismograd.record.reader import open_run

    rows = block([[1.0]])
    rows.steps["flags"], rows.steps["num_steps"] = StepFlag.BY_HAND, num_steps
    run = open_run(write_run(tmp_path / "run", [rows]))
    assert list(step_table.remarks(read_step(run, 0, (0,)))) == [remark]
