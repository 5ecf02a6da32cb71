"""SG101 and SG102 through time, from the sampled signals of recurrent modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

import seismograd  # noqa: E402
from seismograd.analysis.through_time import MAX_KEPT, ThroughTime  # noqa: E402
from seismograd.analysis.time_samples import measurements_of  # noqa: E402
from seismograd.diagnosis.whole_record import diagnose  # noqa: E402
from seismograd.record.reader import open_run  # noqa: E402
from seismograd.rules import ExplodingGradient, VanishingGradient  # noqa: E402
from seismograd.schema import (  # noqa: E402
    SAMPLE_FIELDS,
    Fact,
    Finding,
    SampleBatch,
    SampleKind,
    SampleSubject,
)
from tests.capture.xrays import sampled, train  # noqa: E402
from tests.rules.recurrence_faults import INPUTS, LENGTH, Layer, Unrolled  # noqa: E402
from tests.synthetic import block  # noqa: E402

KIND = SampleKind.MODULE_SIGNALS
STEPS = 110
BOTH = (VanishingGradient, ExplodingGradient)


def learn(path: Path, make: Callable[[], nn.Module], at: int) -> tuple[Finding, ...]:
    """Train to recall what is at one place of the sequence; sampled three times."""
    torch.manual_seed(0)
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    with seismograd.watch(model, optimizer, out=path) as recording:
        for step in range(STEPS):
            labels = torch.randint(2, (32,))
            x = torch.randn(32, LENGTH, INPUTS)
            x[:, at, 0] = 6.0 * labels - 3
            if step in (20, 60, 100):
                recording.xray()
            optimizer.zero_grad()
            F.cross_entropy(model(x), labels).backward()
            optimizer.step()
    return tuple(each for each in recording.findings if each.severity != "info")


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_what_one_operation_hides_is_seen_in_samples(
    kind: type[nn.RNNBase], tmp_path: Path
) -> None:
    findings = learn(tmp_path / "run", lambda: Layer(kind), 0)
    (finding,) = [each for each in findings if each.code == "SG101"]
    said = finding.cause.render()
    assert said.startswith("each step back in time multiplies the gradient by 0.")
    assert f"of a sequence of {LENGTH} steps" in said
    assert finding.parameters == ("rnn.weight_hh_l0",)
    run = open_run(tmp_path / "run")
    again = diagnose(run.blocks(7), notes=run.notes, facts=run.facts, samples=run.sampled)
    assert finding in again.findings()


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("everywhere", [False, True])
def test_recurrent_programs_that_learn_raise_nothing(
    kind: type[nn.RNNBase], everywhere: bool, tmp_path: Path
) -> None:
    at = 0 if everywhere else LENGTH - 2
    assert learn(tmp_path / "run", lambda: Layer(kind, everywhere=everywhere), at) == ()


def real(model: nn.Module) -> SampleBatch:
    with sampled(model) as kept:
        data = torch.randn(8, LENGTH, INPUTS)
        train(model, lambda: model(data).square().mean(), parameters=model.parameters())
    return kept.batches[0]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_it_is_a_line_through_the_steps_of_a_module(kind: type[nn.RNNBase]) -> None:
    torch.manual_seed(0)
    (fact,) = measurements_of(real(Layer(kind)))
    assert fact.parameters == ("rnn.weight_hh_l0",)
    assert fact.number("steps") == LENGTH
    assert fact.number("total") == pytest.approx(fact.number("gain") ** (LENGTH - 1), rel=1e-6)
    assert fact.number("goodness") > 0.8
    assert fact.number("gain") < 0.8


def test_cells_are_measured_by_their_calls() -> None:
    torch.manual_seed(0)
    (fact,) = measurements_of(real(Unrolled(0.4)))
    assert fact.parameters == ("cell.weight_hh",)
    assert 0.2 < fact.number("gain") < 0.5


def steps_of(gain: float, step: int, length: int = 40) -> SampleBatch:
    """A recurrent module whose steps multiply the signal by `gain` on its way back."""
    names = SAMPLE_FIELDS[KIND].names
    subjects = [SampleSubject("rnn", "GRU", time=at) for at in range(length)]
    values = np.full((length, len(names)), np.nan)
    values[:, names.index("input_signal_rms")] = 1e-3 * gain ** np.arange(length - 1, -1, -1.0)
    return SampleBatch(KIND, step, subjects, values, ~np.isnan(values), 0)


def found(
    samples: Sequence[SampleBatch], loss: object = 1.0, steps: int = 80, size: int = 80
) -> list[str]:
    made = block(np.ones((steps, 2)), loss=loss)
    parts = [made.rows(at, min(at + size, steps)) for at in range(0, steps, size)]
    diagnosis = diagnose(parts, BOTH, samples=lambda kind: samples if kind == KIND else ())
    return [each.code for each in diagnosis.findings()]


@pytest.mark.parametrize(("gain", "code"), [(0.5, "SG101"), (1.5, "SG102")])
@pytest.mark.parametrize("size", [80, 1])
def test_two_samples_in_a_row_and_a_loss_that_stays_are_a_fault(
    gain: float, code: str, size: int
) -> None:
    both = [steps_of(gain, 1), steps_of(gain, 70)]
    assert found(both, size=size) == [code]
    assert found(both[:1], size=size) == []
    assert found(both, np.linspace(1, 0.1, 80), size=size) == []
    assert found([*both, steps_of(1.0, 75)], size=size) == []
    assert found([steps_of(0.95, 1), steps_of(1.05, 70)], size=size) == []


def test_numbers_that_are_not_finite_are_no_line() -> None:
    batch = steps_of(0.5, 1)
    values = batch.values.copy()
    values[3] = np.inf
    assert list(measurements_of(replace(batch, values=values))) == []
    assert list(measurements_of(steps_of(0.5, 1, length=6))) == []


def test_of_many_measurements_the_first_and_the_last_are_kept() -> None:
    time = ThroughTime()
    for step in range(100):
        time.learn(Fact("through_time", step, parameters=("w",)), lambda _: True)
    time.loss.add(np.ones(100))
    (shown,) = time.at_fault(4, 60, 0.95)
    assert len(shown) <= MAX_KEPT + 1
    assert (shown[0].iteration, shown[-1].iteration) == (0, 99)
    assert [each.iteration for each in shown[1:]] == list(range(100 - len(shown) + 1, 100))
