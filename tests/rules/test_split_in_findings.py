"""SG101 and SG102 say what each layer does to the signal, where a step was sampled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

import seismograd  # noqa: E402
from seismograd.analysis.split_words import cause_of  # noqa: E402
from seismograd.diagnosis.whole_record import diagnose  # noqa: E402
from seismograd.i18n import use_language  # noqa: E402
from seismograd.record.reader import open_run  # noqa: E402
from seismograd.schema import (  # noqa: E402
    SAMPLE_FIELDS,
    Finding,
    Optimizer,
    RowBatch,
    SampleBatch,
    SampleKind,
    SampleSubject,
)
from seismograd.views.module_signals import read_modules  # noqa: E402
from tests.rules.cutting import cut  # noqa: E402
from tests.rules.made import chain  # noqa: E402
from tests.rules.programs import (  # noqa: E402
    Program,
    adam,
    batch,
    classify,
    initialised,
    mlp,
    sgd,
    trained,
)
from tests.rules.test_programs import judged  # noqa: E402
from tests.synthetic import block  # noqa: E402
from tests.synthetic import finding as some_finding  # noqa: E402

KIND = SampleKind.MODULE_SIGNALS
SIGMOIDS = trained(lambda: mlp(10, nn.Sigmoid), adam)


def only(program: Program, path: Path) -> Finding:
    (finding,) = judged(program, path)
    return finding


def numbers(finding: Finding) -> dict[str, float]:
    return {each.statistic: each.value for each in finding.evidence if not each.parameter}


def test_a_gradient_that_vanishes_is_said_to_be_the_sigmoids_and_the_weights(
    tmp_path: Path,
) -> None:
    finding = only(SIGMOIDS, tmp_path / "run")
    assert finding.code == "SG101"
    said, found = finding.cause.render(), numbers(finding)
    assert "multiplies the signal by 0." in said
    assert "sigmoid 0.2" in said
    assert " × weights 0." in said
    assert said.endswith("of it reaches 0.weight")
    # the numbers of a finding agree with each other, and with the table of the same step
    assert found["signal_gain"] == pytest.approx(
        found["gain_by_activation"] * found["gain_by_weights"], rel=1e-6
    )
    assert found["signal_gain"] == pytest.approx(found["line_gain"], rel=0.15)
    (step,) = {each.step for each in finding.evidence if each.statistic == "signal_gain"}
    shown = read_modules(open_run(tmp_path / "run"), step)
    assert shown.step == step
    assert shown.split is not None
    assert said == cause_of(shown.split).render()
    assert "ReLU alone is not enough" in finding.advice.render()
    assert "nn.LayerNorm(width), nn.GELU()" in finding.excerpt
    with use_language("zh"):
        assert "sigmoid 0.2" in finding.cause.render()
        assert "multiplies" not in finding.cause.render()
        assert "not enough" not in finding.advice.render()


def test_what_is_advised_lets_the_signal_through() -> None:
    """What the excerpt says, in the same program: nothing is found, and the loss falls."""

    def mended() -> nn.Sequential:
        return mlp(10, nn.GELU, nn.LayerNorm)

    with TemporaryDirectory() as folder:
        assert judged(trained(mended, adam), Path(folder) / "run") == ()


def test_a_gradient_that_explodes_is_said_to_be_the_weights(tmp_path: Path) -> None:
    program = trained(lambda: initialised(mlp(10, nn.ReLU), std=2.0), adam)
    finding = only(program, tmp_path / "run")
    assert finding.code == "SG102"
    said, found = finding.cause.render(), numbers(finding)
    assert "multiplies the signal by" in said
    assert "relu 0." in said
    assert found["gain_by_weights"] > 4
    assert f"gain={1 / found['gain_by_activation']:.2g})" in finding.advice.render()
    assert "nn.init.xavier_normal_(layer.weight, gain=" in finding.excerpt


def test_weights_that_pass_nothing_on_are_told_how_large_to_be(tmp_path: Path) -> None:
    program = trained(lambda: initialised(mlp(6, nn.ReLU), std=1e-3), sgd)
    finding = only(program, tmp_path / "run")
    assert finding.code == "SG101"
    said = finding.cause.render()
    assert said.startswith("the outputs do not depend on the input")
    assert "each of 4 layers multiplies the signal by" in said
    scale = 1 / numbers(finding)["signal_gain"]
    assert f"make the weights {scale:.2g} times as large" in finding.advice.render()


def test_without_a_sample_the_finding_says_what_the_gradients_show(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = mlp(10, nn.Sigmoid)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with seismograd.watch(model, optimizer, out=tmp_path / "run", level="light") as recording:
        for step in range(40):
            optimizer.zero_grad()
            classify(model, step).backward()
            optimizer.step()
    (finding,) = [each for each in recording.findings if each.code == "SG101"]
    assert "layers multiplies the gradient by" in finding.cause.render()
    assert "signal_gain" not in numbers(finding)


@pytest.mark.parametrize("steps", [6, 15])
def test_a_short_run_has_its_sample(steps: int, tmp_path: Path) -> None:
    finding = only(trained(lambda: mlp(10, nn.Sigmoid), adam, steps=steps), tmp_path / "run")
    assert "sigmoid 0.2" in finding.cause.render()


def test_of_networks_beside_each_other_the_split_is_that_of_the_one_at_fault(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    healthy, faulty = mlp(14, nn.ReLU, nn.LayerNorm), mlp(8, nn.Sigmoid)
    model = nn.ModuleDict({"good": healthy, "bad": faulty})
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with seismograd.watch(model, optimizer, out=tmp_path / "run") as recording:
        for step in range(40):
            x, labels = batch(step)
            optimizer.zero_grad()
            (F.cross_entropy(healthy(x), labels) + F.cross_entropy(faulty(x), labels)).backward()
            optimizer.step()
    (finding,) = [each for each in recording.findings if each.code == "SG101"]
    assert "sigmoid" in finding.cause.render()
    assert "bad.0.weight" in finding.cause.render()


def sample(step: int, gain: float, activation: float, layers: int = 10) -> SampleBatch:
    """Signals of the layers of `made.chain`, linear and activation in turn."""
    subjects = [
        SampleSubject(f"net.{at // 2}" if at % 2 == 0 else f"act.{at // 2}", kind, source=at - 1)
        for at in range(2 * layers)
        for kind in ("Sigmoid" if at % 2 else "Linear",)
    ]
    names = SAMPLE_FIELDS[KIND].names
    values = np.full((len(subjects), len(names)), np.nan)
    below = np.arange(len(subjects))[::-1]
    signal = gain ** (below // 2) * np.where(below % 2 == 1, gain / activation, 1.0)
    values[:, names.index("signal_rms")] = signal
    return SampleBatch(KIND, step, subjects, values, ~np.isnan(values), 0)


Samples = Sequence[SampleBatch]


def found_in(blocks: Sequence[RowBatch], samples: Samples) -> tuple[Finding, ...]:
    return diagnose(blocks, samples=lambda kind: samples if kind == KIND else ()).findings()


@given(
    gain=st.sampled_from([0.1, 0.14, 8.0]),
    sampled=st.sets(st.integers(0, 59), max_size=6),
    odd=st.sets(st.integers(0, 59), max_size=2),
    begins=st.sampled_from([0, 0, 25]),
    ends=st.sampled_from([60, 60, 40]),
    cuts=st.lists(st.integers(1, 59), max_size=8),
)
@settings(max_examples=25)
def test_the_split_of_a_finding_does_not_depend_on_where_blocks_are_cut(
    gain: float, sampled: set[int], odd: set[int], begins: int, ends: int, cuts: list[int]
) -> None:
    parts = [
        chain(10, 1.0, steps=begins),
        chain(10, gain, steps=ends - begins),
        chain(10, 1.0, steps=60 - ends),
    ]
    made = block(np.concatenate(parts), optimizers=(Optimizer(0, "Adam", "optimizer"),))
    samples = [sample(step, 1.0 if step in odd else gain, 0.24) for step in sorted(sampled | odd)]
    whole = found_in([made], samples)
    assert found_in(cut(made, cuts), samples) == whole
    assert found_in(cut(made, range(60)), samples) == whole
    for finding in whole:
        told = [each for each in finding.evidence if each.statistic == "signal_gain"]
        for each in told:
            assert each.value == pytest.approx(gain)
            assert each.step in sampled - odd
        usable = {step for step in sampled - odd if begins <= step <= finding.last_step}
        is_by_depth = finding.code == "SG101" or not begins  # or the norm of all grew
        if finding.severity != "info" and is_by_depth and usable and not odd:
            assert told


def test_a_sample_that_shows_nothing_of_it_explains_nothing() -> None:
    made = block(chain(10, 0.14), optimizers=(Optimizer(0, "Adam", "optimizer"),))
    (finding,) = found_in([made], [sample(1, 1.0, 0.24), sample(20, 0.9, 0.9)])
    assert "multiplies the gradient by" in finding.cause.render()
    (finding,) = found_in([made], [sample(1, 0.14, 0.24)])
    assert math.isclose(numbers(finding)["signal_gain"], 0.14, rel_tol=1e-6)


@pytest.mark.parametrize(("steps", "expected"), [((31, 40, 45), 31), ((20, 45), 45), ((20,), 20)])
def test_the_sample_is_the_last_of_the_fault_before_it_was_found_or_the_first_after(
    steps: tuple[int, ...], expected: int
) -> None:
    norms = np.concatenate([chain(10, 1.0, steps=30), chain(10, 0.14, steps=30)])
    made = block(norms, optimizers=(Optimizer(0, "Adam", "optimizer"),))
    (finding,) = found_in([made], [sample(step, 0.14, 0.24) for step in steps])
    assert {e.step for e in finding.evidence if e.statistic == "signal_gain"} == {expected}


@pytest.mark.parametrize("code", ["SG101", "SG102", "SG104", "SG301"])
def test_a_finding_about_the_signal_calls_for_a_sample_at_once(code: str, tmp_path: Path) -> None:
    model = mlp(3, nn.ReLU)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with seismograd.watch(model, optimizer, out=tmp_path / "run") as recording:
        for step in range(12):
            if step == 6:
                recording._look_closer(some_finding(code=code))
            optimizer.zero_grad()
            classify(model, step).backward()
            optimizer.step()
    steps = open_run(tmp_path / "run").sampled(KIND).steps.tolist()
    assert steps == ([1] if code == "SG301" else [1, 7])
