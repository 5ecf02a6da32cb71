"""SG805 on graphs of losses of recurrent networks, and on a program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from seismograd.capture.graph.loss_graph import LossGraph  # noqa: E402
from seismograd.capture.graph.recurrence_axes import (  # noqa: E402
    is_across,
    recurrences,
    selects_one,
)
from seismograd.capture.graph.token_targets import token_targets  # noqa: E402
from tests.rules.programs import Listen, adam  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402
from tests.rules.token_faults import VOCABULARY, ahead, sentences  # noqa: E402

SAMPLES, STEPS, FEATURES, WIDTH = 6, 5, 4, 8
KINDS = {
    "LSTM": lambda **options: nn.LSTM(FEATURES, WIDTH, **options),
    "GRU": lambda **options: nn.GRU(FEATURES, WIDTH, **options),
    "RNN": lambda **options: nn.RNN(FEATURES, WIDTH, **options),
    "two layers, both ways": lambda **options: nn.GRU(
        FEATURES, WIDTH // 2, num_layers=2, bidirectional=True, **options
    ),
}
Make = Callable[..., nn.RNNBase]


def faults(loss: Tensor) -> set[str]:
    graph = LossGraph([loss.grad_fn])
    targets = token_targets(graph)
    found = set()
    for node, shape in recurrences(graph):
        if selects_one(graph, node, shape):
            found.add("selected")
        elif is_across(shape, targets):
            found.add("across")
    return found


def samples(steps_first: bool = False) -> Tensor:
    x = torch.randn(SAMPLES, STEPS, FEATURES, generator=torch.Generator().manual_seed(0))
    return x.transpose(0, 1) if steps_first else x


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_the_last_step_of_the_wrong_dimension(make: Make) -> None:
    output = make()(samples())[0]
    assert faults(F.dropout(output, 0.1)[:, -1].square().mean()) == {"selected"}
    assert faults(output[-1].square().mean()) == set()
    assert faults(output.square().mean()) == set()
    assert faults(sum(output[:, i].square().mean() for i in range(STEPS))) == set()  # type: ignore[arg-type]


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_the_last_step_of_the_right_dimension(make: Make) -> None:
    assert faults(make(batch_first=True)(samples())[0][:, -1].square().mean()) == set()
    assert faults(make()(samples(True))[0][-1].square().mean()) == set()
    assert faults(make()(samples(True))[0].transpose(0, 1)[:, -1].square().mean()) == set()
    one = samples()[:1].transpose(0, 1)  # a single sequence
    assert faults(make()(one)[0][:, -1].square().mean()) == set()
    assert faults(make()(samples(True))[1][0].square().mean()) == set()


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_language_model(batch_first: bool) -> None:
    embed, head = nn.Embedding(VOCABULARY, FEATURES), nn.Linear(WIDTH, VOCABULARY)
    layer = nn.GRU(FEATURES, WIDTH, batch_first=batch_first)
    expected = set() if batch_first else {"across"}
    assert faults(ahead(head(layer(embed(sentences(0)))[0]), 0)) == expected
    if not batch_first:  # time first throughout
        tokens = sentences(0).T
        logits = head(layer(embed(tokens[:-1]))[0])
        assert faults(F.cross_entropy(logits.flatten(0, 1), tokens[1:].flatten())) == set()


def test_a_program_is_told_which_layer(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.LSTM(FEATURES, WIDTH)
            self.head = nn.Linear(WIDTH, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.layer(x)[0][:, -1])

    def program(listen: Listen) -> None:
        net = Net()
        optimizer = adam(net)
        with listen(net, optimizer):
            for _ in range(5):
                optimizer.zero_grad()
                F.cross_entropy(net(samples()), torch.arange(SAMPLES) % 2).backward()
                optimizer.step()

    (finding,) = judged(program, tmp_path / "run")
    assert (finding.code, finding.severity, finding.first_step) == ("SG805", "error", 0)
    assert "layer (LSTM)" in finding.cause.render()
    assert f"{SAMPLES} steps of {STEPS} sequences" in finding.cause.render()
    assert finding.excerpt == "self.layer = nn.LSTM(FEATURES, WIDTH, batch_first=True)"
    assert finding.where.endswith(f"test_sg805.py:{Net.__init__.__code__.co_firstlineno + 3}")
