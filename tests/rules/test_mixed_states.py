"""SG805 on states that a view makes rows of samples of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import seismograd  # noqa: E402

SAMPLES, STEPS, FEATURES, WIDTH, CLASSES = 6, 5, 4, 8, 3
Make = Callable[..., nn.RNNBase]
KINDS: dict[str, Make] = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
Rows = Callable[[Tensor], Tensor]

FAULTY: dict[str, Rows] = {
    "view": lambda h: h.view(h.shape[1], -1),
    "reshape": lambda h: h.reshape(-1, len(h) * WIDTH),
    "layers beside each other": lambda h: h.view(h.shape[1], len(h), WIDTH).flatten(1),
    "the last two": lambda h: h[-2:].reshape(h.shape[1], 2 * WIDTH),
    "dropout": lambda h: F.dropout(h, 0.1).reshape(h.shape[1], -1),
    "of one layer": lambda h: h.view(-1, 2, h.shape[1], WIDTH)[-1].reshape(h.shape[1], -1),
}
HEALTHY: dict[str, Rows] = {
    "transposed": lambda h: h.transpose(0, 1).reshape(h.shape[1], -1),
    "permuted": lambda h: h.permute(1, 0, 2).contiguous().view(h.shape[1], -1),
    "joined": lambda h: torch.cat([h[-2], h[-1]], 1),
    "the last": lambda h: h[-1],
    "one by one": lambda h: h.view(-1, 2, h.shape[1], WIDTH)[-1].mean(0),
}


class Recurrent(nn.Module):
    def __init__(self, kind: Make, rows: Rows, **options: object) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = kind(FEATURES, WIDTH, batch_first=True, **options)
        self.rows, self.head = rows, nn.LazyLinear(CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        state: Tensor | tuple[Tensor, Tensor] = self.rnn(x)[1]
        return self.head(self.rows(state if isinstance(state, Tensor) else state[0]))


def codes(model: nn.Module, out: Path, samples: int = SAMPLES) -> list[tuple[str, str]]:
    x = torch.randn(samples, STEPS, FEATURES, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(samples) % CLASSES
    model(x)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with seismograd.watch(model, optimizer, out=out) as recording:
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(x), labels).backward()
            optimizer.step()
    return [(each.code, each.cause.render()) for each in recording.findings if each.code == "SG805"]


@pytest.mark.parametrize("rows", FAULTY.values(), ids=FAULTY)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_view_of_states_is_found(kind: Make, rows: Rows, tmp_path: Path) -> None:
    ((_, cause),) = codes(Recurrent(kind, rows, bidirectional=True), tmp_path / "run")
    assert f"2 × {SAMPLES} × {WIDTH}" in cause
    assert f"({kind.__name__})" in cause


def test_a_view_of_several_layers_is_found(tmp_path: Path) -> None:
    model = Recurrent(nn.LSTM, FAULTY["view"], num_layers=3)
    ((_, cause),) = codes(model, tmp_path / "run")
    assert f"3 × {SAMPLES} × {WIDTH}" in cause


@pytest.mark.parametrize("rows", HEALTHY.values(), ids=HEALTHY)
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_other_rows_are_left_alone(kind: Make, rows: Rows, tmp_path: Path) -> None:
    assert codes(Recurrent(kind, rows, bidirectional=True), tmp_path / "run") == []


def test_as_many_layers_as_samples_are_left_alone(tmp_path: Path) -> None:
    model = Recurrent(nn.GRU, FAULTY["view"], bidirectional=True)
    assert codes(model, tmp_path / "run", samples=2) == []


class Heads(nn.Module):
    """Several layers beside each other."""

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.heads = nn.ModuleList(nn.Linear(FEATURES, WIDTH) for _ in range(4))
        self.rows, self.head = rows, nn.Linear(4 * WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        stack = torch.stack([head(x[:, -1]) for head in self.heads])
        return self.head(self.rows(stack))


def test_a_view_of_what_several_layers_gave_is_found(tmp_path: Path) -> None:
    ((_, cause),) = codes(Heads(FAULTY["view"]), tmp_path / "run")
    assert f"a stack of 4 results, 4 × {SAMPLES} × {WIDTH}" in cause
    assert codes(Heads(HEALTHY["transposed"]), tmp_path / "healthy") == []


class OfWeights(nn.Module):
    """A weight made of parts, with as many rows as the batch has samples."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(FEATURES, SAMPLES)
        self.parts = nn.ParameterList(torch.randn(SAMPLES, WIDTH) for _ in range(3))
        self.head = nn.Linear(3 * WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.stack([part.tanh() for part in self.parts]).view(SAMPLES, 3 * WIDTH)
        stack = torch.stack(list(self.parts)).view(SAMPLES, 3 * WIDTH)
        return self.head(self.body(x[:, -1]) @ (weight + stack).softmax(0))


def test_weights_are_left_alone(tmp_path: Path) -> None:
    assert codes(OfWeights(), tmp_path / "run") == []


SCRIPT = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 8, batch_first=True, bidirectional=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        out, (h_n, c_n) = self.lstm(x)
        return self.head(h_n.view(x.size(0), 16))


net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for _ in range(6):
    loss = nn.functional.cross_entropy(net(torch.randn(7, 5, 4)), torch.randint(3, (7,)))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_the_line_of_the_view_is_shown_as_it_should_read(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(SCRIPT)
    with seismograd.watch(out=tmp_path / "run") as recording:
        exec(compile(SCRIPT, str(file), "exec"), {"__name__": "net"})
    (finding,) = (each for each in recording.findings if each.code == "SG805")
    assert finding.severity == "error"
    assert finding.where.endswith("net.py:14")
    assert "h_n.transpose(0, 1).reshape(x.size(0), 16)" in finding.excerpt
