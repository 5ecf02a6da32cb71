"""Training programs of which nearly everything is frozen: by mistake, or on purpose."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.rules.held_faults import LoadedLayer, LowRank, loaded
from tests.rules.programs import NUM_CLASSES, WIDTH, Listen, Program, batch

Data = Callable[[int], tuple[Tensor, Tensor]]


def parity(step: int, size: int = 64) -> tuple[Tensor, Tensor]:
    """No combination of random features shows whether a number of signs is even."""
    generator = torch.Generator().manual_seed(step)
    signs = torch.randint(2, (size, WIDTH), generator=generator)
    return 2.0 * signs - 1, signs[:, :8].sum(1) % 2 + 2 * (signs[:, 8:].sum(1) % 2)


class Block(nn.Module):
    """As transformers are initialized: normally, with ones and zeros in the normalization."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.norm = nn.Linear(width, 2 * width), nn.LayerNorm(width)
        self.down = nn.Linear(2 * width, width)
        for layer in (self.up, self.down):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Classifier(nn.Module):
    def __init__(self, encoder: nn.Module, inputs: int) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(inputs, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))


def dense() -> Classifier:
    layers = [nn.Linear(WIDTH, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh()]
    return Classifier(nn.Sequential(*layers), 64)


def blocks() -> Classifier:
    return Classifier(nn.Sequential(*[Block(WIDTH) for _ in range(4)]), WIDTH)


def fit(model: nn.Module, optimizer: torch.optim.Optimizer, data: Data, steps: int) -> None:
    for step in range(steps):
        x, labels = data(step)
        optimizer.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()


def by_prefix(
    make: Callable[[], Classifier],
    data: Data,
    prefix: str = "encoder.",
    pretrained: bool = False,
    lr: float = 3e-4,
) -> Program:
    """What has a prefix is frozen."""

    def program(listen: Listen) -> None:
        torch.manual_seed(0)
        model = make()
        if pretrained:
            fit(model, torch.optim.Adam(model.parameters(), 1e-2), batch, 150)
        for name, parameter in model.named_parameters():
            if name.startswith(prefix):
                parameter.requires_grad = False
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr)
        with listen():
            fit(model, optimizer, data, 60)

    return program


class Bottleneck(nn.Module):
    """An adapter behind a layer, of two layers of its own."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base, width = base, base.out_features
        self.adapter = nn.Sequential(nn.Linear(width, 4), nn.ReLU(), nn.Linear(4, width))

    def forward(self, x: Tensor) -> Tensor:
        out = self.base(x)
        return out + self.adapter(out)


def of_what_trains(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(filter(lambda p: p.requires_grad, model.parameters()), 1e-3)


def of_the_head(model: Classifier) -> torch.optim.Optimizer:
    return torch.optim.NAdam(model.head.parameters(), 1e-3)


def with_adapters(
    layer: Callable[[nn.Linear], nn.Module],
    data: Data,
    filtered: bool = True,
    wrap: Callable[[nn.Module], nn.Module] = lambda model: model,
    frozen: Callable[[str], bool] = lambda name: True,
) -> Program:
    """A trained body with adapters and a new head: the optimizer takes what trains."""

    def program(listen: Listen) -> None:
        torch.manual_seed(0)
        first, second = nn.Linear(WIDTH, 64), nn.Linear(64, 64)
        body = nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), nn.Linear(64, NUM_CLASSES))
        fit(body, torch.optim.Adam(body.parameters(), 1e-2), batch, 150)
        adapted = nn.Sequential(layer(first), nn.Tanh(), layer(second), nn.Tanh())
        for name, parameter in adapted.named_parameters():
            parameter.requires_grad_(not frozen(name))
        model = Classifier(wrap(adapted), 64)
        optimizer = of_what_trains(model) if filtered else of_the_head(model)
        with listen():
            fit(model, optimizer, data, 60)

    return program


def in_two_stages(loads: bool) -> Program:
    """Adapters are trained with one head, and for another one loaded again under the same names,
    for inference, or frozen as they are.
    """

    def program(listen: Listen) -> None:
        torch.manual_seed(0)
        first, second = nn.Linear(WIDTH, 64), nn.Linear(64, 64)
        body = nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), nn.Linear(64, NUM_CLASSES))
        fit(body, torch.optim.Adam(body.parameters(), 1e-2), batch, 150)
        adapted = nn.Sequential(LoadedLayer(first), nn.Tanh(), LoadedLayer(second), nn.Tanh())
        for name, parameter in adapted.named_parameters():
            parameter.requires_grad_("base" not in name)
        with listen():
            model = Classifier(loaded(inference_mode=False)(adapted), 64)
            fit(model, of_what_trains(model), batch, 20)
            again = copy.deepcopy(adapted) if loads else adapted
            model = Classifier(loaded(inference_mode=loads)(again.requires_grad_(False)), 64)
            fit(model, of_what_trains(model), batch, 60)

    return program


FAULTY: dict[str, tuple[str, Program]] = {
    "a prefix that matches all below it": (
        "frozen as it was initialized",
        by_prefix(dense, parity),
    ),
    "blocks that were never loaded": (
        "frozen as it was initialized",
        by_prefix(blocks, parity, lr=1e-2),
    ),
    "adapters for inference, left out": (
        "peft loads an adapter for inference",
        with_adapters(LoadedLayer, batch, wrap=loaded(inference_mode=True)),
    ),
    "adapters loaded again": ("peft loads an adapter for inference", in_two_stages(loads=True)),
    "adapters left out": ("all adapters are frozen", with_adapters(LowRank, batch)),
    "adapters of two layers, left out": (
        "all adapters are frozen",
        with_adapters(Bottleneck, parity),
    ),
}
HEALTHY: dict[str, Program] = {
    "random features that are enough": by_prefix(dense, batch),
    "random blocks that are enough": by_prefix(blocks, batch, lr=1e-3),
    "a trained body that does not help": by_prefix(dense, parity, pretrained=True),
    "a trained body": by_prefix(dense, batch, pretrained=True),
    "little is frozen": by_prefix(dense, batch, prefix="encoder.0."),
    "a head on adapters that are meant to stay": with_adapters(LowRank, batch, filtered=False),
    "layers that are called adapters": with_adapters(Bottleneck, batch),
    "adapters frozen for a second head": in_two_stages(loads=False),
    "adapters that train": with_adapters(LowRank, batch, frozen=lambda name: "lora" not in name),
}
