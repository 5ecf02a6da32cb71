"""`seismograd why` puts together what a record says, or says that nothing broke."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from seismograd.cli import main
from seismograd.record.writer import Writer
from seismograd.schema import Fact, FactKind, Optimizer, RowBatch, SampleBatch
from seismograd.views.text_layout import cell_width
from tests.rules.made import chain
from tests.rules.test_birth import birth
from tests.synthetic import block, info
from tests.views.test_module_signals import layered

ADAM = (Optimizer(0, "Adam", "optimizer"),)
ROOT = Path(__file__).parents[2]
Said = tuple[int, str, str]


def record(
    path: Path,
    made: RowBatch,
    samples: Iterable[SampleBatch] = (),
    facts: Iterable[Fact] = (),
) -> Path:
    writer = Writer(path, info(fact_kinds=tuple(map(str, FactKind))))
    for sample in samples:
        writer.sampled(sample)
    for fact in facts:
        writer.learn(fact)
    writer.observe(made)
    writer.close()
    return path


@pytest.fixture
def vanishing(tmp_path: Path) -> Path:
    made = block(chain(10, 0.1, steps=40), optimizers=ADAM)
    return record(tmp_path / "run", made, [layered(1, layers=10), layered(30, layers=10)])


@pytest.fixture
def healthy(tmp_path: Path) -> Path:
    loss = np.linspace(2, 0.1, 60)
    return record(tmp_path / "run", block(chain(6, 1.0, steps=60), loss=loss, optimizers=ADAM))


def why(capsys: pytest.CaptureFixture[str], run: Path, *options: str, lang: str = "en") -> Said:
    code = main(["why", str(run), *options, "--lang", lang])
    said = capsys.readouterr()
    return code, said.out, said.err


def bars(out: str) -> dict[str, int]:
    """How long the bar of each layer is."""
    return {
        line.split()[-3]: line.count("█")
        for line in out.splitlines()
        if line.rstrip().endswith("█")
    }


def test_findings_come_first_and_then_the_depth(
    vanishing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = why(capsys, vanishing)
    assert code == 0
    assert out.index("SG101") < out.index("The signal on its way back, at step 1")
    drawn = bars(out)
    assert list(drawn) == [f"net.{at}" for at in range(0, 20, 2)]
    lengths = list(drawn.values())
    assert lengths == sorted(lengths)
    assert lengths[0] == 1
    # equal factors are bars of equal distances: the logarithm of the size
    assert max(np.diff(lengths)) - min(np.diff(lengths)) <= 1
    assert "It is the first step" in out
    # the finding says it, and the plot shows it
    assert out.count("layers multiplies the signal by") == 1
    assert "rnn (RNN): each of 4 steps back in time" in out


def test_a_healthy_run_is_said_to_be_so_with_what_was_looked_at(
    healthy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = why(capsys, healthy)
    assert (code, err) == (0, "")
    assert "No problems found" in out
    assert "Looked at: 60 steps, 12 parameters; rules that found nothing: " in out
    assert "No number was seen to become NaN or infinite." in out
    assert "The gradients of the layers at step 59 (norm, input first):" in out
    assert len(bars(out)) == 6
    assert "learning rate, batch, loss scale and clip did not change" in " ".join(out.split())


def test_what_changed_shortly_before_is_named_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = np.arange(60)
    made = block(
        chain(6, 1.0, steps=60) * np.where(steps >= 50, 1e5, 1.0)[:, None],
        loss=np.where(steps >= 50, 400.0, 1.0),
        lr=np.where(steps < 5, 0.5, np.where(steps >= 48, 1.0, 0.01)),
        scale=np.where(steps < 10, 2.0, 1.0),
        num_backwards=np.where(steps >= 49, 4, 1),
        optimizers=ADAM,
    )
    facts = [
        Fact("group_settings", step, optimizer=0, values={"group": 0, "eps": eps, "beta1": 0.9})
        for step, eps in ((0, 1e-8), (47, 1e-3))
    ]
    run = record(tmp_path / "run", made, facts=facts)
    _, out, _ = why(capsys, run, "--step", "50", "--format", "json")
    found = {each["name"]: each for each in json.loads(out)["changes"]}
    assert set(found) == {"lr", "num_backwards", "grad_norm", "loss", "eps"}
    assert (found["lr"]["before"], found["lr"]["now"], found["lr"]["step"]) == (0.01, 1.0, 48)
    assert (found["num_backwards"]["now"], found["num_backwards"]["step"]) == (4.0, 49)
    assert found["grad_norm"]["now"] > 1e4 * found["grad_norm"]["before"]
    assert (found["eps"]["now"], found["eps"]["step"], found["eps"]["group"]) == (1e-3, 47, 0)
    _, out, _ = why(capsys, run, "--step", "50")
    assert "- learning rate: 0.01 → 1 (step 48)" in out
    assert "- backwards per step: 1 → 4 (step 49)" in out
    assert "- eps of group 0: 1e-08 → 0.001 (step 47)" in out
    _, out, _ = why(capsys, run, "--step", "40", "--format", "json")
    assert json.loads(out)["changes"] == []


def test_the_birth_of_the_first_bad_number_is_part_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = block([[1.0, 1.0], [1.0, float("nan")]], loss=[0.5, 0.4])
    run = record(tmp_path / "run", made, facts=[birth()])
    _, out, _ = why(capsys, run, "--format", "json")
    born = json.loads(out)["birth"]
    assert (born["step"], born["where"], born["operation"]) == (1, "model.py:31", "sqrt")
    code, out, _ = why(capsys, run)
    assert code == 0
    assert out.count("`sqrt` at model.py:31") == 1  # the finding says it
    _, out, _ = why(capsys, run, "--step", "0", "--format", "json")
    assert json.loads(out)["birth"] is None
    # where a finding does not say it, a line does
    _, out, _ = why(capsys, run, "--param", "net.0.weight")
    assert "The first number that is not finite, at step 1: `sqrt` at model.py:31" in out


def test_a_step_and_parameters_limit_what_is_told(
    vanishing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = why(capsys, vanishing, "--step", "35", "--format", "json")
    data = json.loads(out)
    assert (data["step"], [each["code"] for each in data["findings"]]) == (35, ["SG101"])
    _, out, _ = why(capsys, vanishing, "--param", "net.9.*", "--format", "json")
    data = json.loads(out)
    assert data["findings"] == []
    assert [each["name"] for each in data["depth"] if each["is_asked"]] == []
    _, out, _ = why(capsys, vanishing, "--param", "net.0.weight")
    assert "SG101" in out
    assert "> net.0 " in out


@pytest.mark.parametrize("columns", ["60", "80", "200"])
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_it_fits_the_terminal(
    vanishing: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: str,
    lang: str,
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    code, out, _ = why(capsys, vanishing, lang=lang)
    assert code == 0
    assert max(map(cell_width, out.splitlines())) <= int(columns)
    if lang == "zh":
        assert "signal" not in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--step", "x"), "--step does not accept 'x'"),
        (("--step", "99"), "there is no step 99"),
        (("--param", "nothing.*"), "no parameter matches 'nothing.*'"),
        (("--format", "xml"), "--format does not accept 'xml'"),
    ],
)
def test_bad_input_is_one_line(
    vanishing: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    code, out, err = why(capsys, vanishing, *options)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_a_run_that_is_none_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = why(capsys, tmp_path / "nowhere")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_the_page_on_it_names_what_the_answer_has(
    vanishing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "why.md").read_text(encoding="utf-8")
    _, out, _ = why(capsys, vanishing, "--format", "json")
    for name in json.loads(out):
        assert f"`{name}`" in page
