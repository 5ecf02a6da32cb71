"""Thirty small programs that train well, of every kind that there is: no rule may find anything
in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import lr_scheduler

from tests.rules.programs import (
    NUM_CLASSES,
    WIDTH,
    Bag,
    Listen,
    Loss,
    Program,
    Sequence,
    batch,
    classify,
    convolutional,
    mlp,
    residual_stack,
    transformer,
)

Make = Callable[[], nn.Module]
Optimize = Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Healthy:
    """A program, in the words of docs/healthy.md."""

    network: str
    optimizer: str
    dtype: str
    more: str
    program: Program


def plain(
    make: Make,
    optimize: Optimize,
    loss_of: Loss = classify,
    steps: int = 50,
    clip: float | None = None,
    schedule: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler] | None = None,
    autocast: torch.dtype | None = None,
    scaled: bool = False,
    micro: int = 1,
) -> Program:
    """The plain loop with what is asked for."""

    def program(listen: Listen) -> None:
        torch.manual_seed(0)
        model = make()
        optimizer = optimize(p for p in model.parameters() if p.requires_grad)
        scheduler = schedule(optimizer) if schedule is not None else None
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16, enabled=scaled)
        with listen(model, optimizer):
            for step in range(steps):
                optimizer.zero_grad()
                for part in range(micro):
                    with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
                        loss = loss_of(model, step * micro + part) / micro
                    scaler.scale(loss).backward()
                scaler.unscale_(optimizer)
                if clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), clip)
                scaler.step(optimizer)
                scaler.update()
                if scheduler is not None:
                    scheduler.step()

    return program


def using(kind: Callable[..., torch.optim.Optimizer], lr: float, **options: Any) -> Optimize:
    return lambda parameters: kind(parameters, lr=lr, **options)


def as_given(dtype: torch.dtype) -> Loss:
    def loss(model: nn.Module, step: int) -> Tensor:
        x, labels = batch(step)
        return F.cross_entropy(model(x.to(dtype)), labels)

    return loss


def reconstruct(model: nn.Module, step: int) -> Tensor:
    x, _ = batch(step)
    x = x.sigmoid()
    return F.mse_loss(model(x).sigmoid(), x)


def autoencoder() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(WIDTH, 32),
        nn.ReLU(),
        nn.Linear(32, 4),
        nn.Tanh(),
        nn.Linear(4, 32),
        nn.ReLU(),
        nn.Linear(32, WIDTH),
    )


def line(model: nn.Module, step: int) -> Tensor:
    x, _ = batch(step)
    return F.mse_loss(model(x), x[:, :1] - 2 * x[:, 1:2])


class Variational(nn.Module):
    """A variational autoencoder that gives its own loss."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = (
            nn.Linear(WIDTH, 8),
            nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Linear(16, WIDTH)),
        )

    def forward(self, x: Tensor) -> Tensor:
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        latent = mean + (log_variance / 2).exp() * torch.randn(
            mean.shape, generator=torch.Generator().manual_seed(0)
        )
        divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1).mean()
        return F.mse_loss(self.decoder(latent), x, reduction="none").sum(1).mean() + divergence


class Factors(nn.Module):
    """Users and items as embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(50, 8), nn.Embedding(40, 8)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return (self.user(users) * self.item(items)).sum(1) / 3


def rate(model: nn.Module, step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    users, items = (
        torch.randint(50, (64,), generator=generator),
        torch.randint(40, (64,), generator=generator),
    )
    return F.mse_loss(model(users, items), torch.sin(users.float()) * torch.cos(items.float()))


class Experts(nn.Module):
    """Each input goes to the one of eight experts that scores highest."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, 8)
        self.experts = nn.ModuleList(mlp(2, nn.GELU, outputs=WIDTH) for _ in range(8))
        self.head = nn.Linear(WIDTH, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        share = self.gate(x).softmax(1)
        chosen = share.argmax(1)
        parts = [x[chosen == index] for index in range(8)]
        mixed = torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            if len(parts[index]):
                mixed[chosen == index] = expert(parts[index]) * share[chosen == index, index, None]
        return self.head(x + mixed)


class Adapted(nn.Module):
    """A frozen layer beside two small ones that begin at zero together."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(WIDTH, WIDTH).requires_grad_(False)
        self.down, self.up = nn.Linear(WIDTH, 2, bias=False), nn.Linear(2, WIDTH, bias=False)
        self.head = nn.Linear(WIDTH, NUM_CLASSES)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.base(x) + self.up(self.down(x))).relu())


def logistic() -> nn.Linear:
    layer = nn.Linear(WIDTH, NUM_CLASSES)
    nn.init.zeros_(layer.weight)
    return layer


def triplet(model: nn.Module, step: int) -> Tensor:
    x, labels = batch(step, 64)
    points = F.normalize(model(x), dim=1)
    first = [points[labels == label] for label in range(NUM_CLASSES)]
    near = torch.cat([each[:4] for each in first])
    same = torch.cat([each[4:8] for each in first])
    return F.triplet_margin_loss(near, same, near.roll(5, 0), margin=0.5)


def few(model: nn.Module, step: int) -> Tensor:
    x, labels = batch(step % 2, 8)
    return F.cross_entropy(model(x), labels)


def noisy(model: nn.Module, step: int) -> Tensor:
    """Half of the labels are wrong."""
    x, labels = batch(step)
    generator = torch.Generator().manual_seed(step)
    wrong = torch.rand(len(labels), generator=generator) < 0.5
    return F.cross_entropy(
        model(x),
        torch.where(wrong, torch.randint(NUM_CLASSES, labels.shape, generator=generator), labels),
    )


def heavy_tails(model: nn.Module, step: int) -> Tensor:
    x, _ = batch(step)
    noise = torch.distributions.StudentT(2.0)
    torch.manual_seed(step)
    return F.huber_loss(model(x), x[:, :1] + noise.sample((len(x), 1)))


def q_learning(listen: Listen) -> None:
    """A network and its frozen copy."""
    network, target = mlp(2, nn.ReLU, outputs=2), mlp(2, nn.ReLU, outputs=2).requires_grad_(False)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    with listen(network, optimizer):
        for step in range(60):
            x, _ = batch(step)
            after, _ = batch(1000 + step)
            action = torch.randint(2, (len(x), 1), generator=torch.Generator().manual_seed(step))
            reward = (action[:, 0] == (x[:, 0] > 0)).float()
            loss = F.smooth_l1_loss(
                network(x).gather(1, action).squeeze(1), reward + 0.5 * target(after).amax(1)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 20 == 0:
                target.load_state_dict(network.state_dict())


def adversaries(listen: Listen) -> None:
    """Real and generated samples are backpropagated apart."""
    torch.manual_seed(0)
    generator, critic = mlp(3, nn.ReLU, outputs=WIDTH), mlp(3, nn.LeakyReLU, outputs=1)
    opt_g, opt_d = (
        torch.optim.Adam(each.parameters(), 5e-4, betas=(0.5, 0.999))
        for each in (generator, critic)
    )
    judge = nn.BCEWithLogitsLoss()
    with listen(generator, critic, opt_g, opt_d):
        for step in range(40):
            opt_d.zero_grad()
            judge(critic(batch(step)[0]), torch.ones(32, 1)).backward()
            fake = generator(torch.randn(32, WIDTH))
            judge(critic(fake.detach()), torch.zeros(32, 1)).backward()
            opt_d.step()
            opt_g.zero_grad()
            judge(critic(fake), torch.ones(32, 1)).backward()
            opt_g.step()


def closures(listen: Listen) -> None:
    """LBFGS evaluates the loss itself."""
    model = mlp(2, nn.Tanh)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=5)
    with listen(model, optimizer):
        for _ in range(15):

            def closure() -> Tensor:
                optimizer.zero_grad()
                loss = classify(model, 0)
                loss.backward()
                return loss

            optimizer.step(closure)


def sharpness(listen: Listen) -> None:
    """SAM: the gradient of a neighbouring point moves the weights."""
    model = mlp(3, nn.ReLU)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with listen(model, optimizer):
        for step in range(40):
            optimizer.zero_grad()
            classify(model, step).backward()
            with torch.no_grad():
                norm = torch.sqrt(
                    sum(p.grad.square().sum() for p in model.parameters() if p.grad is not None)
                )
                moves = [
                    0.05 * p.grad / (norm + 1e-12) for p in model.parameters() if p.grad is not None
                ]
                for p, move in zip(model.parameters(), moves, strict=True):
                    p.add_(move)
            optimizer.zero_grad()
            classify(model, step).backward()
            with torch.no_grad():
                for p, move in zip(model.parameters(), moves, strict=True):
                    p.sub_(move)
            optimizer.step()


SGD, ADAM, ADAMW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW
F32 = "float32"

PROGRAMS = (
    Healthy("3 layers, ReLU", "SGD 0.1", F32, "", plain(lambda: mlp(3, nn.ReLU), using(SGD, 0.1))),
    Healthy(
        "6 layers, tanh",
        "SGD 0.05, momentum 0.9",
        F32,
        "",
        plain(lambda: mlp(6, nn.Tanh), using(SGD, 0.05, momentum=0.9)),
    ),
    Healthy(
        "4 layers, GELU, layer norm",
        "AdamW 3e-3",
        F32,
        "warm-up",
        plain(
            lambda: mlp(4, nn.GELU, nn.LayerNorm),
            using(ADAMW, 3e-3),
            schedule=lambda o: lr_scheduler.LinearLR(o, 0.01, total_iters=10),
        ),
    ),
    Healthy(
        "convolutions, ReLU",
        "Adam 1e-3",
        F32,
        "",
        plain(lambda: convolutional(nn.ReLU, 3, False), using(ADAM, 1e-3), steps=30),
    ),
    Healthy(
        "convolutions, batch norm",
        "SGD 0.1, Nesterov",
        F32,
        "cosine to 0",
        plain(
            lambda: convolutional(nn.ReLU, 3, True),
            using(SGD, 0.1, momentum=0.9, nesterov=True),
            steps=30,
            schedule=lambda o: lr_scheduler.CosineAnnealingLR(o, 30),
        ),
    ),
    Healthy(
        "10 residual blocks",
        "Adam 1e-2",
        F32,
        "",
        plain(lambda: residual_stack(None), using(ADAM, 1e-2), steps=30),
    ),
    Healthy(
        "transformer",
        "AdamW 1e-3",
        F32,
        "clip 1.0",
        plain(transformer, using(ADAMW, 1e-3), steps=30, clip=1.0),
    ),
    Healthy(
        "transformer",
        "AdamW 1e-3",
        "bfloat16 autocast",
        "",
        plain(transformer, using(ADAMW, 1e-3), steps=25, autocast=torch.bfloat16),
    ),
    Healthy(
        "LSTM, 3 layers",
        "Adam 1e-2",
        F32,
        "clip 1.0",
        plain(Sequence, using(ADAM, 1e-2), steps=40, clip=1.0),
    ),
    Healthy(
        "embedding bag",
        "Adagrad 0.05",
        F32,
        "few rows touched",
        plain(Bag, using(torch.optim.Adagrad, 0.05)),
    ),
    Healthy(
        "two embeddings",
        "Adam 1e-2",
        F32,
        "factorisation",
        plain(Factors, using(ADAM, 1e-2), rate, steps=80),
    ),
    Healthy(
        "autoencoder",
        "RMSprop 1e-3",
        F32,
        "",
        plain(autoencoder, using(torch.optim.RMSprop, 1e-3), reconstruct, steps=60),
    ),
    Healthy(
        "variational autoencoder",
        "Adam 3e-3",
        F32,
        "",
        plain(Variational, using(ADAM, 3e-3), lambda m, t: m(batch(t)[0]), steps=60),
    ),
    Healthy(
        "8 experts, one per input",
        "Adam 3e-3",
        F32,
        "idle experts",
        plain(Experts, using(ADAM, 3e-3)),
    ),
    Healthy(
        "frozen layer and adapter",
        "AdamW 3e-3",
        F32,
        "begins at zero",
        plain(Adapted, using(ADAMW, 3e-3)),
    ),
    Healthy(
        "linear regression",
        "SGD 0.05",
        "float64",
        "",
        plain(
            lambda: nn.Linear(WIDTH, 1).double(),
            using(SGD, 0.05),
            lambda m, t: F.mse_loss(m(batch(t)[0].double()), batch(t)[0][:, :1].double()),
            steps=80,
        ),
    ),
    Healthy(
        "linear regression",
        "Rprop 0.01",
        F32,
        "",
        plain(lambda: nn.Linear(WIDTH, 1), using(torch.optim.Rprop, 0.01), line),
    ),
    Healthy(
        "logistic regression", "SGD 1.0", F32, "begins at zero", plain(logistic, using(SGD, 1.0))
    ),
    Healthy(
        "3 layers, ReLU",
        "Adam 3e-3",
        F32,
        "triplet loss",
        plain(lambda: mlp(3, nn.ReLU, outputs=8), using(ADAM, 3e-3), triplet),
    ),
    Healthy(
        "3 layers, ReLU",
        "Adam 1e-2",
        F32,
        "16 samples by heart",
        plain(lambda: mlp(3, nn.ReLU), using(ADAM, 1e-2), few, steps=150),
    ),
    Healthy(
        "3 layers, ReLU",
        "Adadelta 1.0",
        F32,
        "half the labels wrong",
        plain(
            lambda: mlp(3, nn.ReLU),
            using(torch.optim.Adadelta, 1.0),
            noisy,
            steps=80,
        ),
    ),
    Healthy(
        "3 layers, SiLU",
        "NAdam 2e-3",
        F32,
        "heavy-tailed targets",
        plain(
            lambda: mlp(3, nn.SiLU, outputs=1),
            using(torch.optim.NAdam, 2e-3),
            heavy_tails,
            steps=80,
        ),
    ),
    Healthy(
        "4 layers, ReLU",
        "Adam 1e-3",
        "bfloat16 weights",
        "",
        plain(
            lambda: mlp(4, nn.ReLU).bfloat16(),
            using(ADAM, 1e-3),
            as_given(torch.bfloat16),
        ),
    ),
    Healthy(
        "4 layers, ReLU",
        "SGD 0.05, momentum 0.9",
        "float16 autocast",
        "GradScaler, clip 5.0",
        plain(
            lambda: mlp(4, nn.ReLU),
            using(SGD, 0.05, momentum=0.9),
            steps=60,
            clip=5.0,
            autocast=torch.float16,
            scaled=True,
        ),
    ),
    Healthy(
        "4 layers, leaky ReLU",
        "RAdam 3e-3",
        F32,
        "4 micro-batches",
        plain(
            lambda: mlp(4, nn.LeakyReLU),
            using(torch.optim.RAdam, 3e-3),
            steps=25,
            micro=4,
        ),
    ),
    Healthy(
        "4 sigmoid layers",
        "Adamax 1e-2",
        F32,
        "",
        plain(lambda: mlp(4, nn.Sigmoid), using(torch.optim.Adamax, 1e-2), steps=80),
    ),
    Healthy("2 layers, ReLU", "Adam 1e-3", F32, "Q-learning, frozen target", q_learning),
    Healthy("generator and critic", "two Adam 5e-4", F32, "GAN", adversaries),
    Healthy("2 layers, tanh", "LBFGS 0.5", F32, "closures", closures),
    Healthy("3 layers, ReLU", "SGD 0.1", F32, "SAM", sharpness),
)
