"""`show --modules` shows the signals of a sampled step, in every format, or says why it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from seismograd.cli import main
from seismograd.record.writer import Writer
from seismograd.schema import SAMPLE_FIELDS, SampleBatch, SampleKind, SampleSubject
from tests.synthetic import block, info

NAMES = SAMPLE_FIELDS[SampleKind.MODULE_SIGNALS].names


def layered(step: int, factor: float = 0.2, layers: int = 5) -> SampleBatch:
    """Linear layers with a sigmoid behind each, which multiply the signal by 1/2 and `factor`."""
    subjects: list[SampleSubject] = []
    signals: list[float] = []
    for _ in range(layers):
        for kind, times in (("Linear", factor), ("Sigmoid", 0.5)):
            source = len(subjects) - 1
            subjects.append(SampleSubject(f"net.{len(subjects)}", kind, source=source))
            signals.append(times)
    signals = (1e-3 * np.cumprod([1.0, *signals[:0:-1]]))[::-1].tolist()
    rows = [SampleSubject("rnn", "RNN", time=at, source=-1) for at in range(5)]
    values = np.full((len(subjects) + len(rows), len(NAMES)), np.nan)
    measured = np.zeros(values.shape, np.bool_)
    for name, numbers in (
        ("numel", [64.0] * len(subjects)),
        ("rms", [0.5] * len(subjects)),
        ("largest", [np.nan] + [2.0] * (len(subjects) - 1)),
        ("zeros", [0.0] * len(subjects)),
        ("signal_rms", signals),
    ):
        values[: len(subjects), NAMES.index(name)] = numbers
        measured[: len(subjects), NAMES.index(name)] = True
    column = NAMES.index("input_signal_rms")
    values[len(subjects) :, column] = [1e-5 * 10.0**at for at in range(5)]
    measured[len(subjects) :, column] = True
    return SampleBatch(
        SampleKind.MODULE_SIGNALS, step, (*subjects, *rows), values, measured, optimizer=0
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    writer = Writer(path, info())
    for step in (1, 4):
        writer.sampled(layered(step))
    writer.observe(block(np.ones((6, 2))))
    writer.close()
    return path


def show(capsys: pytest.CaptureFixture[str], run: Path, *options: str) -> tuple[int, str, str]:
    code = main(["show", str(run), "--modules", *options, "--lang", "en"])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_table_and_the_sentence(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = show(capsys, run)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "Signals of modules at step 4 (samples: 2, last: step 4)"
    table = [line.split() for line in lines if line.startswith("net.")]
    assert [line[0] for line in table] == [f"net.{at}" for at in range(10)]
    assert table[0][1:4] == ["Linear", "0.5", "nan"]  # measured, and NaN
    assert table[0][5] == "–"  # not measured
    text = " ".join(out.split())
    assert "Each of 3 layers multiplies the signal by 0.1: sigmoid 0.5 × weights 0.2" in text
    assert "0.001 of it reaches net.0.weight." in text
    assert "make the weights 10 times as large".capitalize() in text
    assert "rnn (RNN): each of 4 steps back in time multiplies the signal by 0.1" in text
    assert "0.0001 of it reaches the first" in text


def test_every_format_has_the_same_numbers(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = show(capsys, run, "--format", "json", "--step", "3")
    data = json.loads(out)
    assert (data["step"], len(data["modules"])) == (1, 10)
    first = data["modules"][0]
    assert (first["largest"], first["saturated"], first["factor"]) == ("nan", None, None)
    assert data["modules"][1]["factor"] == pytest.approx(0.5)
    assert data["split"]["total"] == pytest.approx(0.1**3)
    assert data["in_time"][0]["gain"] == pytest.approx(0.1)
    _, out, _ = show(capsys, run, "--format", "plain", "--param", "net.1")
    assert out.startswith("net.1 Sigmoid numel=64 rms=0.5 largest=2 zeros=0 signal_rms=")
    assert out.count("\n") == 1


@pytest.mark.parametrize("columns", ["60", "80", "200"])
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_it_fits_the_terminal(
    run: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: str,
    lang: str,
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["show", str(run), "--modules", "--lang", lang]) == 0
    out = capsys.readouterr().out
    assert all(len(line) <= int(columns) for line in out.splitlines())
    assert "net.9" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--step", "0"), "were not sampled up to this step · the first sample is of step 1"),
        (("--step", "77"), "there is no step 77"),
        (("--step", "x"), "--step does not accept 'x'"),
        (("--param", "q*"), "no module matches 'q*'"),
        (("--format", "x"), "unknown format 'x'"),
    ],
)
def test_bad_input_is_answered_in_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    code, out, err = show(capsys, run, *options)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_run_without_samples_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writer = Writer(tmp_path / "run", info())
    writer.observe(block(np.ones((6, 2))))
    writer.close()
    code, _, err = show(capsys, tmp_path / "run")
    assert code == 2
    assert "no signals of modules were sampled in" in err
