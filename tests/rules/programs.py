"""Small training programs, each with one fault or none. `listen(model, optimizer, …)` is what
watches them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Listen = Callable[..., AbstractContextManager[Any]]
Program = Callable[[Listen], None]
Loss = Callable[[nn.Module, int], Tensor]

WIDTH, NUM_CLASSES = 16, 4


def batch(step: int, size: int = 32) -> tuple[Tensor, Tensor]:
    """Points of four clouds, others at each step."""
    generator = torch.Generator().manual_seed(step)
    labels = torch.randint(NUM_CLASSES, (size,), generator=generator)
    centres = torch.randn(NUM_CLASSES, WIDTH, generator=torch.Generator().manual_seed(99))
    return centres[labels] + 0.5 * torch.randn(size, WIDTH, generator=generator), labels


def classify(model: nn.Module, step: int) -> Tensor:
    x, labels = batch(step)
    return F.cross_entropy(model(x), labels)


def mlp(
    depth: int,
    activation: type[nn.Module],
    norm: type[nn.Module] | None = None,
    outputs: int = NUM_CLASSES,
) -> nn.Sequential:
    torch.manual_seed(0)
    blocks: list[nn.Module] = []
    for _ in range(depth - 1):
        blocks += [
            nn.Linear(WIDTH, WIDTH),
            *([norm(WIDTH)] if norm is not None else []),
            activation(),
        ]
    return nn.Sequential(*blocks, nn.Linear(WIDTH, outputs))


def initialised(model: nn.Sequential, std: float) -> nn.Sequential:
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
    return model


def sgd(model: nn.Module, lr: float = 0.1, momentum: float = 0.9) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)


def adam(model: nn.Module, lr: float = 3e-3) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=lr)


def trained(
    make: Callable[[], nn.Module],
    optimize: Callable[[nn.Module], torch.optim.Optimizer] = sgd,
    loss_of: Loss = classify,
    steps: int = 40,
    clip: float | None = None,
    clear_every: int = 1,
) -> Program:
    """The plain loop."""

    def program(listen: Listen) -> None:
        model = make()
        optimizer = optimize(model)
        with listen(model, optimizer):
            for step in range(steps):
                if clear_every and step % clear_every == 0:
                    optimizer.zero_grad()
                loss_of(model, step).backward()
                if clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), clip)
                optimizer.step()

    return program


class Sequence(nn.Module):
    """Three recurrent layers over eight steps of two numbers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.LSTM(2, WIDTH, num_layers=3, batch_first=True)
        self.head = nn.Linear(WIDTH, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x.view(-1, 8, 2))[0][:, -1])


class Residual(nn.Module):
    def __init__(self, inner: nn.Module, scale: float | None = None) -> None:
        super().__init__()
        self.inner = inner
        self.scale = nn.Parameter(torch.full((), scale)) if scale is not None else None

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.inner(x) if self.scale is None else self.scale * self.inner(x))


class Bag(nn.Module):
    """An embedding of which a batch touches few rows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.EmbeddingBag(2000, WIDTH)
        self.net = mlp(5, nn.ReLU)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.table((x[:, :4].abs() * 500).long().clamp(max=1999)))


def convolutional(activation: type[nn.Module], depth: int, norm: bool) -> nn.Sequential:
    torch.manual_seed(0)
    blocks: list[nn.Module] = [nn.Unflatten(1, (1, 4, 4))]
    for index in range(depth):
        blocks += [
            nn.Conv2d(8 if index else 1, 8, 3, padding=1),
            *([nn.BatchNorm2d(8)] if norm else []),
            activation(),
        ]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(8 * WIDTH, NUM_CLASSES))


def residual_stack(scale: float | None) -> nn.Sequential:
    torch.manual_seed(0)
    blocks = [
        Residual(nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.GELU()), scale)
        for _ in range(10)
    ]
    return nn.Sequential(*blocks, nn.Linear(WIDTH, NUM_CLASSES))


def transformer() -> nn.Sequential:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
    return nn.Sequential(
        nn.Unflatten(1, (2, 8)), encoder, nn.Flatten(), nn.Linear(WIDTH, NUM_CLASSES)
    )


def regress(model: nn.Module, step: int) -> Tensor:
    x, labels = batch(step)
    return F.mse_loss(model(8 * x).squeeze(1), labels.float())


def summed(model: nn.Module, step: int) -> Tensor:
    return 32 * classify(model, step) * 1e5


def root_at_zero(model: nn.Module, step: int) -> Tensor:
    """A root whose input reaches 0 in a branch that the mask hides."""
    x, _ = batch(step)
    height = model(x).squeeze(1) * 0.1 + 2.0 - 0.2 * step
    return (torch.where(height > 0, torch.sqrt(height), height) - 1).pow(2).mean()


def logarithm_of_zero(model: nn.Module, step: int) -> Tensor:
    x, labels = batch(step)
    probability = F.softmax(model(x) * (1 + 4.0**step), dim=1)
    return -torch.log(probability[torch.arange(len(x)), labels]).mean()


def bad_batch(model: nn.Module, step: int) -> Tensor:
    x, labels = batch(step)
    if step == 12:
        x[3, 5] = torch.nan
    return F.cross_entropy(model(x), labels)


def accumulate(clear: bool) -> Program:
    """Four micro-batches a step; `clear` says whether in the right place or once an epoch."""

    def program(listen: Listen) -> None:
        model = mlp(3, nn.ReLU)
        optimizer = sgd(model)
        with listen(model, optimizer):
            for step in range(80):
                if step % 40 == 0:
                    optimizer.zero_grad()
                (classify(model, step) / 4).backward()
                if step % 4 == 3:
                    optimizer.step()
                    if clear:
                        optimizer.zero_grad()

    return program


def adversaries(clear_generator: bool) -> Program:
    """A GAN whose discriminator is cleared before each use."""

    def program(listen: Listen) -> None:
        torch.manual_seed(0)
        generator, critic = mlp(4, nn.ReLU, outputs=WIDTH), mlp(4, nn.LeakyReLU, outputs=1)
        opt_g, opt_d = adam(generator), adam(critic)
        judge = nn.BCEWithLogitsLoss()
        with listen(generator, critic, opt_g, opt_d):
            for step in range(30):
                fake = generator(torch.randn(32, WIDTH))
                opt_d.zero_grad()
                loss = judge(critic(batch(step)[0]), torch.ones(32, 1)) + judge(
                    critic(fake.detach()), torch.zeros(32, 1)
                )
                loss.backward()
                opt_d.step()
                if clear_generator:
                    opt_g.zero_grad()
                judge(critic(fake), torch.ones(32, 1)).backward()
                opt_g.step()

    return program


def scaled_search(listen: Listen) -> None:
    """A GradScaler that begins far too high."""
    model = mlp(3, nn.ReLU)
    optimizer = sgd(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    with listen(model, optimizer):
        for step in range(30):
            optimizer.zero_grad()
            scaler.scale(classify(model, step)).backward()
            scaler.step(optimizer)
            scaler.update()


def without_zero_grad_of_its_own(listen: Listen) -> None:
    """Clears by hand."""
    model = mlp(3, nn.ReLU)
    optimizer = sgd(model)
    with listen(model, optimizer):
        for step in range(30):
            for index, parameter in enumerate(model.parameters()):
                if index % 2:
                    parameter.grad = None
                elif parameter.grad is not None:
                    parameter.grad.zero_()
            classify(model, step).backward()
            optimizer.step()


FAULTY: dict[str, tuple[str, Program]] = {
    "ten sigmoid layers": ("SG101", trained(lambda: mlp(11, nn.Sigmoid))),
    "sigmoid convolutions": (
        "SG101",
        trained(lambda: convolutional(nn.Sigmoid, 8, norm=False), adam, steps=20),
    ),
    "tiny initial weights": (
        "SG101",
        trained(lambda: initialised(mlp(9, nn.Tanh), 0.01), sgd, steps=20),
    ),
    "sigmoid layers so deep that nothing is left": (
        "SG101",
        trained(lambda: mlp(70, nn.Sigmoid), steps=15),
    ),
    "sigmoid layers in bfloat16": (
        "SG101",
        trained(
            lambda: mlp(11, nn.Sigmoid).bfloat16(),
            loss_of=lambda m, t: F.cross_entropy(m(batch(t)[0].bfloat16()).float(), batch(t)[1]),
            steps=20,
        ),
    ),
    "forty ReLU layers as initialised by default": (
        "SG101",
        trained(lambda: mlp(40, nn.ReLU), lambda m: sgd(m, 0.01), steps=45),
    ),
    "unit normal weights under SGD": (
        "SG102",
        trained(lambda: initialised(mlp(12, nn.ReLU), 1.0), lambda m: sgd(m, 1e-3, 0), steps=10),
    ),
    "unit normal weights under Adam": (
        "SG102",
        trained(lambda: initialised(mlp(12, nn.ReLU), 1.0), adam, steps=15),
    ),
    "a learning rate that diverges": (
        "SG102",
        trained(lambda: nn.Linear(WIDTH, 1), lambda m: sgd(m, 0.05, 0), regress, steps=60),
    ),
    "a deep network with batch normalisation only": (
        "SG102",
        trained(lambda: mlp(60, nn.ReLU, nn.BatchNorm1d), lambda m: adam(m, 1e-3), steps=15),
    ),
    "a hidden root at zero": (
        "SG201",
        trained(lambda: mlp(2, nn.Tanh, outputs=1), loss_of=root_at_zero, steps=30),
    ),
    "a logarithm of zero": (
        "SG201",
        trained(lambda: mlp(2, nn.Tanh), lambda m: sgd(m, 1e-4), logarithm_of_zero, steps=20),
    ),
    "a batch with a NaN": ("SG201", trained(lambda: mlp(4, nn.ReLU), adam, bad_batch, steps=20)),
    "never cleared": ("SG301", trained(lambda: mlp(4, nn.ReLU), adam, clear_every=0)),
    "cleared once an epoch": ("SG301", trained(lambda: mlp(4, nn.ReLU), clear_every=10)),
    "cleared every second step": (
        "SG301",
        trained(lambda: mlp(4, nn.ReLU), lambda m: sgd(m, 0.01), clear_every=2),
    ),
    "accumulation that never ends its windows": ("SG301", accumulate(clear=False)),
    "a generator that is never cleared": ("SG301", adversaries(clear_generator=False)),
}

HEALTHY: dict[str, Program] = {
    "a small network": trained(lambda: mlp(3, nn.ReLU)),
    "a deep ReLU network": trained(lambda: mlp(8, nn.ReLU), adam, steps=60),
    "a deep tanh network": trained(lambda: mlp(10, nn.Tanh), adam, steps=60),
    "a deep GELU network that has to find out of its start": trained(
        lambda: mlp(9, nn.GELU), adam, steps=80
    ),
    "four sigmoid layers": trained(lambda: mlp(4, nn.Sigmoid), lambda m: adam(m, 1e-2), steps=60),
    "thirty layers with He's initialisation": trained(
        lambda: initialised(mlp(30, nn.ReLU), (2 / WIDTH) ** 0.5),
        lambda m: sgd(m, 1e-3),
        steps=30,
        clip=1.0,
    ),
    "layer normalisation": trained(lambda: mlp(16, nn.GELU, nn.LayerNorm), adam),
    "convolutions with batch normalisation": trained(
        lambda: convolutional(nn.ReLU, 6, norm=True), lambda m: sgd(m, 0.05), steps=30
    ),
    "residual blocks": trained(lambda: residual_stack(None), adam, steps=30),
    "residual blocks that begin at zero": trained(lambda: residual_stack(0.0), adam, steps=30),
    "a transformer": trained(transformer, adam, steps=25, clip=1.0),
    "recurrent layers": trained(Sequence, lambda m: adam(m, 1e-2), steps=40, clip=1.0),
    "an embedding": trained(Bag, adam, steps=40),
    "a summed loss": trained(lambda: mlp(4, nn.ReLU), adam, summed),
    "a summed loss under SGD": trained(lambda: mlp(4, nn.ReLU), lambda m: sgd(m, 1e-8), summed),
    "regression without normalised targets": trained(
        lambda: mlp(5, nn.ReLU, outputs=1),
        lambda m: adam(m, 1e-2),
        lambda m, t: regress(m, t) * 1e8,
        steps=60,
    ),
    "accumulation": accumulate(clear=True),
    "two adversaries": adversaries(clear_generator=True),
    "a scaler that looks for its scale": scaled_search,
    "clearing by hand": without_zero_grad_of_its_own,
}
