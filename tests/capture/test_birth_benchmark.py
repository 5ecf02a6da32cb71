"""A sample of the benchmark of births: faults of every place in several architectures."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from benchmarks.birth.trial import Trial, score, trials

SAMPLE = {
    "Perceptron model: 0 / 0",
    "Convolutional model: exp overflow",
    "Patches model: softmax of −inf",
    "Recurrent model: sqrt 0, backward",
    "Attention model: hidden log, backward",
    "Gated model: fp16 cast",
    "Residual loss: log of a probability",
    "Variational loss: distance 0, backward",
    "Graph loss: CTC target too long",
    "Convolutional data: NaN in the input",
    "Normalised weights: corrupt between steps",
    "Perceptron weights: eps zero in float16",
}
TRIALS = {f"{each.architecture.__name__} {each.place}: {each.fault}": each for each in trials()}


@pytest.mark.parametrize("name", sorted(SAMPLE))
def test_a_fault_is_named_with_its_line_and_samples(name: str) -> None:
    trial: Trial = TRIALS[name]
    one, fact = score(trial)
    assert one is not None, "the fault does not show"
    assert one.operation, fact
    assert one.line in (True, None), fact
    assert one.samples in (True, None), fact
