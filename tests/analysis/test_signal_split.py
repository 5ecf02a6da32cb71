"""What a layer does to the signal is split into what the activation and the weights do."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import Tensor, nn  # noqa: E402

from seismograd.analysis.signal_chain import Part, chain_of  # noqa: E402
from seismograd.analysis.signal_in_time import signals_in_time  # noqa: E402
from seismograd.analysis.signal_split import SignalSplit, split_of  # noqa: E402
from seismograd.analysis.split_words import advice_of, cause_of, excerpt_of, factors  # noqa: E402
from seismograd.schema import SampleBatch  # noqa: E402
from tests.capture.xrays import sampled, train  # noqa: E402


def sample(model: nn.Module, data: Tensor) -> SampleBatch:
    with sampled(model) as kept:
        train(model, lambda: model(data).square().mean(), parameters=model.parameters())
    return kept.batches[0]


def chain(kind: Callable[[], nn.Module], layers: int = 8, width: int = 64) -> nn.Sequential:
    torch.manual_seed(0)
    blocks = [each for _ in range(layers) for each in (nn.Linear(width, width), kind())]
    return nn.Sequential(*blocks, nn.Linear(width, 2))


@pytest.mark.parametrize("kind", [nn.Sigmoid, nn.Tanh, nn.ReLU, nn.GELU, nn.Softsign])
def test_on_a_chain_the_product_over_depth_is_the_measured_ratio(
    kind: Callable[[], nn.Module],
) -> None:
    model, data = chain(kind), torch.randn(32, 64)
    split = split_of(sample(model, data))
    assert split is not None
    # measured independently, with the weights as the sampled step had them but for one small step
    outputs: list[Tensor] = []
    x = data
    for module in model:
        x = module(x)
        x.retain_grad()
        outputs.append(x)
    x.square().mean().backward()
    sizes = [float(each.grad.double().square().mean().sqrt()) for each in outputs]  # type: ignore[union-attr]
    measured = sizes[0] / sizes[-3]
    product = (split.by_activation * split.by_weights * split.by_rest) ** split.num_layers
    assert product == pytest.approx(measured, rel=0.1)
    assert split.gain**split.num_layers == pytest.approx(split.total, rel=1e-6)
    activations = [sizes[at - 1] / sizes[at] for at in range(1, len(sizes) - 3, 2)]
    expected = math.exp(float(np.log(activations).mean()))
    assert split.by_activation == pytest.approx(expected, rel=0.1)
    assert (split.first, split.last, split.num_layers) == ("0", "14", 7)
    assert (split.activation, split.num_sums) == (kind().__class__.__name__, 0)


def test_weights_scaled_as_advised_keep_the_size_of_the_signal() -> None:
    model, data = chain(nn.Identity), torch.randn(64, 64)
    before = split_of(sample(model, data))
    assert before is not None
    assert before.gain < 0.7
    with torch.no_grad():
        for each in model.parameters():
            each *= before.scale
    after = split_of(sample(model, data))
    assert after is not None
    assert after.gain == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize(("kind", "name"), [(nn.ReLU, "relu"), (nn.Tanh, "tanh")])
def test_the_gain_to_initialise_with_keeps_it_too(kind: Callable[[], nn.Module], name: str) -> None:
    model, data = chain(kind, width=256), torch.randn(64, 256)
    split = split_of(sample(model, data))
    assert split is not None
    for each in model:
        if isinstance(each, nn.Linear) and each.out_features > 2:
            nn.init.xavier_normal_(each.weight, gain=split.init_gain)
            nn.init.zeros_(each.bias)
    after = split_of(sample(model, data))
    assert after is not None
    assert (after.gain) == pytest.approx(1, abs=0.35 if name == "tanh" else 0.25)
    assert f"gain={split.init_gain:.3g})" in excerpt_of(split)


class Residual(nn.Module):
    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Linear(width, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU()) for _ in range(6)
        )
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def test_residual_branches_are_told_and_the_chain_goes_past_them() -> None:
    torch.manual_seed(0)
    model, data = Residual(), torch.randn(16, 32)
    batch = sample(model, data)
    split = split_of(batch)
    assert split is not None
    assert (split.num_sums, split.first, split.num_layers) == (6, "stem", 6)
    assert {link.part for link in chain_of(batch)} == {Part.WEIGHTS, Part.SUM}
    assert 0.5 < split.gain < 2
    assert "past 6 residual branches" in cause_of(split).render()
    product = math.prod(link.factor for link in chain_of(batch)[1:-1])
    assert product == pytest.approx(split.total, rel=1e-6)


def test_what_saturates_is_told_to_be_normalised() -> None:
    model = chain(nn.Sigmoid)
    with torch.no_grad():
        for each in model.parameters():
            each *= 60
    split = split_of(sample(model, torch.randn(16, 64)))
    assert split is not None
    assert split.saturated > 0.3
    # what is told of one that vanishes
    told = replace(split, gain=min(split.gain, 0.5), by_activation=min(split.by_activation, 0.5))
    assert "is saturated and passes nothing on" in advice_of(told).render()


def test_the_sentence() -> None:
    split = SignalSplit(5, "0", "20", 10, 1.4e-8, 0.1408, "Sigmoid", 0.22, 0.64, 1.0, 0.0, 0)
    assert cause_of(split).render() == (
        "each of 10 layers multiplies the signal by 0.14: sigmoid 0.22 × weights 0.64; 1.4e-08 of "
        "it reaches 0.weight"
    )
    assert "ReLU alone is not enough" in advice_of(split).render()
    assert "still multiply the signal by 0.45" in advice_of(split).render()
    assert "LayerNorm" in excerpt_of(split)
    assert "not enough" not in advice_of(replace(split, by_weights=1.3)).render()
    # ReLU lets half of the scalars pass: that is not what is lost where the weights are small
    small = replace(split, activation="ReLU", by_activation=0.7, by_weights=0.2, saturated=0.5)
    assert "make the weights 7.1 times as large" in advice_of(small).render()
    assert excerpt_of(small) == "nn.init.xavier_normal_(layer.weight, gain=1.43)"
    growing = SignalSplit(5, "0", "9", 4, 81.0, 3.0, "", 1.0, 2.0, 1.5, math.nan, 0)
    assert cause_of(growing).render() == (
        "each of 4 layers multiplies the signal by 3: weights 2 × other modules 1.5; at 0.weight "
        "it is 81 times as large"
    )
    assert "0.33 times as large" in advice_of(growing).render()
    with_rest = SignalSplit(5, "0", "9", 4, 0.1, 0.56, "ReLU", 0.7, 0.4, 2.0, 0.0, 0)
    assert factors(with_rest).render() == "relu 0.7 × weights 0.4 × other modules 2"


@pytest.mark.parametrize("kind", [nn.RNN, nn.RNNCell])
def test_what_is_left_of_it_at_the_beginning_of_a_sequence(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.rnn = nn.Linear(8, 8), kind(8, 8)
            for name, each in self.rnn.named_parameters():
                if "weight_hh" in name:
                    nn.init.orthogonal_(each, gain=0.5)
                elif "bias" in name:
                    nn.init.zeros_(each)
                else:
                    nn.init.orthogonal_(each, gain=0.1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.before(x)
            if isinstance(self.rnn, nn.RNN):
                return self.rnn(x)[0][-1]
            state = x.new_zeros(x.shape[1], 8)
            for each in x:
                state = self.rnn(each, state)
            return state

    (found,) = signals_in_time(sample(Reader(), torch.randn(12, 4, 8)))
    assert (found.module, found.num_steps) == ("rnn", 11)
    assert found.gain == pytest.approx(0.5, rel=0.1)
    assert found.total == pytest.approx(0.5**11, rel=0.6)


def test_a_chain_ends_where_nothing_comes_through() -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
            self.third, self.last = nn.Linear(4, 4), nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.third(self.second(self.first(x) * 0.0)))

    batch = sample(Cut(), torch.randn(3, 4))
    assert [link.subject.name for link in chain_of(batch)] == ["second", "third", "last"]
    assert split_of(batch) is None
