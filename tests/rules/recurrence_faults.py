"""Recurrent networks whose gradient vanishes or explodes through time, and healthy ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.rules.programs import Listen, Program

INPUTS, WIDTH, LENGTH = 4, 24, 40


class Unrolled(nn.Module):
    """A recurrence by hand, of a cell of torch or of one linear layer over input and state."""

    def __init__(self, std: float, *, by_hand: bool = False) -> None:
        super().__init__()
        self.cell = nn.Linear(INPUTS + WIDTH, WIDTH) if by_hand else nn.RNNCell(INPUTS, WIDTH)
        self.head = nn.Linear(WIDTH, 2)
        weight = self.cell.weight if isinstance(self.cell, nn.Linear) else self.cell.weight_hh
        nn.init.normal_(weight, std=std / WIDTH**0.5)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), WIDTH)
        for now in x.unbind(1):
            if isinstance(self.cell, nn.Linear):
                state = torch.tanh(self.cell(torch.cat([now, state], 1)))
            else:
                state = self.cell(now, state)
        return self.head(state)


class Layer(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], *, everywhere: bool = False) -> None:
        super().__init__()
        self.rnn, self.head = kind(INPUTS, WIDTH, batch_first=True), nn.Linear(WIDTH, 2)
        self.everywhere = everywhere

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.rnn(x)[0]
        return self.head(outputs.mean(1) if self.everywhere else outputs[:, -1])


class Alike(nn.Module):
    """The same layer for each of many parts that do not depend on each other, later ones less."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(INPUTS, WIDTH), nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        parts = [0.6**step * self.layer(now).tanh() for step, now in enumerate(x.unbind(1))]
        return self.head(torch.stack(parts).sum(0))


def biased(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Begins above the loss of a guess, to which it can fall without any memory."""

    def made() -> nn.Module:
        model = make()
        head = model.get_submodule("head")
        assert isinstance(head, nn.Linear)
        nn.init.constant_(head.bias[:1], 1.2)
        return model

    return made


def recall(make: Callable[[], nn.Module], at: int, *, lr: float = 3e-3, steps: int = 90) -> Program:
    """The label is in one step of the sequence; all others are noise."""

    def program(listen: Listen) -> None:
        torch.manual_seed(0)
        model = make()
        optimizer = torch.optim.Adam(model.parameters(), lr)
        with listen(model, optimizer):
            for _ in range(steps):
                labels = torch.randint(2, (32,))
                x = torch.randn(32, LENGTH, INPUTS)
                x[:, at, 0] = 6.0 * labels - 3
                optimizer.zero_grad()
                F.cross_entropy(model(x), labels).backward()
                optimizer.step()

    return program


FAULTY: dict[str, tuple[str, Program]] = {
    "a cell, forgotten": ("SG101", recall(lambda: Unrolled(0.4), 0)),
    "a linear layer, forgotten": ("SG101", recall(lambda: Unrolled(0.4, by_hand=True), 0)),
    "a cell, forgotten, and a bias that is unlearned": (
        "SG101",
        recall(biased(lambda: Unrolled(0.4)), 0, lr=1e-2),
    ),
    "nn.RNN, forgotten": ("SG101", recall(lambda: Layer(nn.RNN), 0)),
    "a cell that explodes": ("SG102", recall(lambda: Unrolled(5.0), 0, lr=1e-5)),
}
HEALTHY: dict[str, Program] = {
    "the end matters": recall(lambda: Unrolled(0.4), LENGTH - 1),
    "the end matters, and a bias": recall(biased(lambda: Unrolled(0.4)), LENGTH - 1, lr=1e-2),
    "the mean of all outputs": recall(lambda: Layer(nn.RNN, everywhere=True), 0),
    "nn.GRU, the end matters": recall(lambda: Layer(nn.GRU), LENGTH - 2),
    "parts that do not depend on each other": recall(Alike, 0),
    "a run too short to tell": recall(lambda: Unrolled(0.4), 0, steps=30),
}
