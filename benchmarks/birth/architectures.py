"""Models of many kinds, each with a place in its middle where a fault is put in: a function of the
activations there and of a mark for each sample, 0 for those that are to fail, else 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

BATCH, CLASSES, CHANNELS, SIZE, LENGTH, VOCABULARY = 8, 3, 3, 8, 6, 11

Fault = Callable[[Tensor, Tensor], Tensor]


class FaultyPart(nn.Module):
    """The place of the fault; the identity where there is none."""

    def __init__(self, fault: Fault | None) -> None:
        super().__init__()
        self.fault = fault

    def forward(self, h: Tensor, mark: Tensor) -> Tensor:
        """Return activations of the shape given  # (B, …), (B,) -> (B, …)."""
        if self.fault is None:
            return h
        return self.fault(h, mark.reshape(-1, *[1] * (h.dim() - 1)))


class Architecture(nn.Module):
    """A model of samples; `kind` of input: vectors, images or tokens."""

    kind = "vectors"

    def __init__(self, fault: Fault | None) -> None:
        super().__init__()
        self.part = FaultyPart(fault)


class Perceptron(Architecture):
    def __init__(self, fault: Fault | None) -> None:
        super().__init__(fault)
        self.first, self.last = nn.Linear(LENGTH, 16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor, mark: Tensor) -> Tensor:
        return self.last(self.part(torch.tanh(self.first(x)), mark))


class Normalised(Architecture):
    def __init__(self, fault: Fault | None) -> None:
        super().__init__(fault)
        self.first = nn.Sequential(nn.Linear(LENGTH, 16), nn.BatchNorm1d(16), nn.GELU())
        self.last = nn.Sequential(nn.LayerNorm(16), nn.Dropout(0.1), nn.Linear(16, CLASSES))

    def forward(self, x: Tensor, mark: Tensor) -> Tensor:
        return self.last(self.part(self.first(x), mark))


class Autoencoder(Architecture):
    def __init__(self, fault: Fault | None) -> None:
        super().__init__(fault)
        self.encoder = nn.Sequential(nn.Linear(LENGTH, 12), nn.ELU(), nn.Linear(12, 4))
        self.decoder = nn.Sequential(nn.Linear(4, 12), nn.ELU(), nn.Linear(12, CLASSES))

    def forward(self, x: Tensor, mark: Tensor) -> Tensor:
        return self.decoder(self.part(self.encoder(x), mark))


class Variational(Architecture):
    def __init__(self, fault: Fault | None) -> None:
        super().__init__(fault)
        self.encoder, self.decoder = nn.Linear(LENGTH, 8), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor, mark: Tensor) -> Tensor:
        mean, log_variance = self.encoder(x).chunk(2, 1)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        return self.decoder(self.part(z, mark))


class Experts(Architecture):
    def __init__(self, fault: Fault | None) -> None:
        super().__init__(fault)
        self.gate = nn.Linear(LENGTH, 2)
        self.experts = nn.ModuleList(nn.Linear(LENGTH, CLASSES) for _ in range(2))

    def forward(self, x: Tensor, mark: Tensor) -> Tensor:
        weights = self.gate(x).softmax(1)
        given = torch.stack([expert(x) for expert in self.experts], 1)
        return (self.part(given, mark) * weights[:, :, None]).sum(1)


class Convolutional(Architecture):
    kind = "images"

    def __init__(self, fault: Fault | None) -> None:
        super().__init__(fault)
        self.first = nn.Sequential(nn.Conv2d(CHANNELS, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.last = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor, mark: Tensor) -> Tensor:
        return self.last(self.part(self.first(x).tanh(), mark).mean((2, 3)))


class Residual(Architecture):
    kind = "images"

    def __init__(self, fault: Fault | None) -> None:
        super().__init__(fault)
        self.stem = nn.Conv2d(CHANNELS, 4, 3, 2, 1)
        self.block = nn.Sequential(nn.GroupNorm(2, 4), nn.SiLU(), nn.Conv2d(4, 4, 3, padding=1))
        self.head = nn.Linear(4 * 16, CLASSES)

    def forward(self, x: Tensor, mark: Tensor) -> Tensor:
        h = self.stem(x)
        h = h + self.part(self.block(h), mark)
        return self.head(h.flatten(1))


class Patches(Architecture):
    kind = "images"

    def __init__(self, fault: Fault | None) -> None:
        super().__init__(fault)
        self.patches = nn.Conv2d(CHANNELS, 8, 4, 4)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor, mark: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.part(self.layer(tokens), mark).mean(1))


class Recurrent(Architecture):
    kind = "tokens"

    def __init__(self, fault: Fault | None) -> None:
        super().__init__(fault)
        self.embed = nn.Embedding(VOCABULARY, 8)
        self.cell, self.head = nn.LSTM(8, 8, batch_first=True), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor, mark: Tensor) -> Tensor:
        return self.head(self.part(self.cell(self.embed(x))[0], mark)[:, -1])


class Gated(Architecture):
    kind = "tokens"

    def __init__(self, fault: Fault | None) -> None:
        super().__init__(fault)
        self.embed = nn.Embedding(VOCABULARY, 8)
        self.cell, self.head = nn.GRUCell(8, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor, mark: Tensor) -> Tensor:
        state = torch.zeros(len(x), 8)
        for token in self.embed(x).unbind(1):
            state = self.cell(token, state)
        return self.head(self.part(state, mark))


class Attention(Architecture):
    kind = "tokens"

    def __init__(self, fault: Fault | None) -> None:
        super().__init__(fault)
        self.embed, self.qkv = nn.Embedding(VOCABULARY, 8), nn.Linear(8, 24)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor, mark: Tensor) -> Tensor:
        q, k, v = self.qkv(self.embed(x)).chunk(3, -1)
        causal = torch.full((LENGTH, LENGTH), float("-inf")).triu(1)
        scores = q @ k.mT / 8**0.5 + causal
        return self.head(self.part(scores.softmax(-1) @ v, mark).mean(1))


class Graph(Architecture):
    kind = "tokens"

    def __init__(self, fault: Fault | None) -> None:
        super().__init__(fault)
        self.nodes, self.mix = nn.Embedding(VOCABULARY, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor, mark: Tensor) -> Tensor:
        h = self.nodes(x)
        edges = torch.eye(LENGTH).roll(1, 0) + torch.eye(LENGTH)
        h = self.mix(edges @ h / edges.sum(1, keepdim=True)).relu()
        return self.head(self.part(h, mark).amax(1))


ARCHITECTURES: tuple[type[Architecture], ...] = (
    Perceptron,
    Normalised,
    Autoencoder,
    Variational,
    Experts,
    Convolutional,
    Residual,
    Patches,
    Recurrent,
    Gated,
    Attention,
    Graph,
)
