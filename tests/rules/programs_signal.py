"""Small training programs for the rules about the signal: each with one fault or none.
`listen(model, optimizer, …)` watches them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LambdaLR, LRScheduler

from tests.rules.programs import (
    NUM_CLASSES,
    WIDTH,
    Listen,
    Loss,
    Program,
    adam,
    batch,
    classify,
    convolutional,
    mlp,
    regress,
    sgd,
)

Schedule = Callable[[torch.optim.Optimizer], LRScheduler]
Optimize = Callable[[nn.Module], torch.optim.Optimizer]


def run(
    make: Callable[[], nn.Module],
    optimize: Optimize,
    loss_of: Loss = classify,
    *,
    steps: int = 40,
    schedule: Schedule | None = None,
    before: Callable[[int, nn.Module, torch.optim.Optimizer], None] | None = None,
    autocast: torch.dtype | None = None,
    scaler: Callable[[], torch.amp.GradScaler] | None = None,
    pretrain: int = 0,
) -> Program:
    """The plain loop with what is asked for."""

    def program(listen: Listen) -> None:
        model = make()
        _pretrain(model, loss_of, pretrain)
        optimizer = optimize(model)
        scheduler = schedule(optimizer) if schedule is not None else None
        scaling = scaler() if scaler is not None else None
        with listen(model, optimizer):
            for step in range(steps):
                if before is not None:
                    before(step, model, optimizer)
                optimizer.zero_grad()
                with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
                    loss = loss_of(model, step)
                if scaling is None:
                    loss.backward()
                    optimizer.step()
                else:
                    scaling.scale(loss).backward()
                    scaling.step(optimizer)
                    scaling.update()
                if scheduler is not None:
                    scheduler.step()

    return program


def _pretrain(model: nn.Module, loss_of: Loss, steps: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(steps):
        optimizer.zero_grad()
        loss_of(model, 1000 + step).backward()
        optimizer.step()


def net() -> nn.Sequential:
    return mlp(4, nn.ReLU)


def in_dtype(dtype: torch.dtype, make: Callable[[], nn.Module] = net) -> Callable[[], nn.Module]:
    return lambda: make().to(dtype)


def classify_in(dtype: torch.dtype, factor: float = 1.0) -> Loss:
    def loss(model: nn.Module, step: int) -> Tensor:
        x, labels = batch(step)
        return F.cross_entropy(model(x.to(dtype)), labels) * factor

    return loss


def silent_bias() -> nn.Sequential:
    """ReLU layers behind biases that let nothing through."""
    model = mlp(4, nn.ReLU)
    for layer in list(model)[:-1]:
        if isinstance(layer, nn.Linear):
            nn.init.constant_(layer.bias, -50.0)
    return model


def one_silent_layer() -> nn.Sequential:
    model = mlp(5, nn.ReLU)
    assert isinstance(model[4], nn.Linear)
    nn.init.constant_(model[4].bias, -50.0)
    return model


def without_biases(activation: type[nn.Module], std: float) -> Callable[[], nn.Module]:
    """Equal layers, whose gradients are all of one size."""

    def make() -> nn.Module:
        torch.manual_seed(0)
        sizes = [WIDTH, 48, 48, 48, 48]
        hidden = [
            part for i, o in pairwise(sizes) for part in (nn.Linear(i, o, bias=False), activation())
        ]
        model = nn.Sequential(*hidden, nn.Linear(48, NUM_CLASSES, bias=False))
        for weight in model.parameters():
            nn.init.normal_(weight, std=std)
        return model

    return make


def saturated() -> nn.Sequential:
    """Sigmoid units that are driven so far that their derivative is exactly zero."""
    model = mlp(2, nn.Sigmoid)
    assert isinstance(model[0], nn.Linear)
    nn.init.constant_(model[0].bias, 200.0)
    return model


def behind_sigmoids() -> nn.Sequential:
    """A ReLU layer behind ten of sigmoids, each of which divides the gradient by four or more."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), *mlp(11, nn.Sigmoid))


def one_large_step(step: int, _model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        group["lr"] = 30.0 if step == 3 else 0.02


def lr_jump(step: int, _model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        group["lr"] = 10.0 if step == 30 else 0.05


def outlier(at: int, factor: float) -> Loss:
    def loss(model: nn.Module, step: int) -> Tensor:
        x, labels = batch(step)
        return F.cross_entropy(model(x * factor if step == at else x), labels)

    return loss


def wrong_labels(model: nn.Module, step: int) -> Tensor:
    x, labels = batch(step)
    return F.cross_entropy(model(x), (labels + 1) % NUM_CLASSES if step == 50 else labels)


def heavy_weight(model: nn.Module, step: int) -> Tensor:
    return classify(model, step) * (1000.0 if step == 25 else 1.0)


def few(model: nn.Module, step: int) -> Tensor:
    """The same eight points again and again."""
    x, labels = batch(0, 8)
    return F.cross_entropy(model(x), labels) + 0 * step


def random_labels(model: nn.Module, step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    return F.cross_entropy(
        model(torch.randn(32, WIDTH, generator=generator)),
        torch.randint(NUM_CLASSES, (32,), generator=generator),
    )


def policy(model: nn.Module, step: int) -> Tensor:
    """A policy gradient: noisy, of either sign, and it need not fall."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(40, WIDTH, generator=generator)
    log_probability = F.log_softmax(model(x), dim=1)
    action = torch.multinomial(log_probability.exp().detach(), 1, generator=generator).squeeze(1)
    reward = (action == (x[:, 0] > 0).long()).float()
    return -(
        log_probability[torch.arange(40), action] * (reward - reward.mean()) / (reward.std() + 1e-6)
    ).sum()


def masked(model: nn.Module, step: int) -> Tensor:
    """Batches in which every target is ignored."""
    x, labels = batch(step)
    return F.cross_entropy(model(x), torch.full_like(labels, -100) if step == 15 else labels)


def infinite_but_masked(model: nn.Module, step: int) -> Tensor:
    """An infinite term that has no gradient."""
    return classify(model, step) + (torch.tensor(torch.inf) if step >= 12 else torch.tensor(0.0))


def nan_input(model: nn.Module, step: int) -> Tensor:
    x, labels = batch(step)
    return F.cross_entropy(
        model(torch.where(torch.arange(WIDTH) == 3, torch.nan, x) if step == 9 else x), labels
    )


def overflows(every: int) -> Loss:
    """A forward pass whose gradient overflows now and then, whatever the scale."""

    def loss(model: nn.Module, step: int) -> Tensor:
        made = classify(model, step)
        return made * torch.tensor(1e38) * 1e4 if step >= 10 and step % every == 0 else made

    return loss


def groups(
    first: float,
    second: float,
    kind: type[torch.optim.Optimizer] = torch.optim.Adam,
    **options: Any,
) -> Optimize:
    def optimize(model: nn.Module) -> torch.optim.Optimizer:
        half = len(list(model.parameters())) // 2
        parts = list(model.parameters())[:half], list(model.parameters())[half:]
        return kind(
            [{"params": parts[0], "lr": first}, {"params": parts[1], "lr": second}], **options
        )

    return optimize


def experts(listen: Listen) -> None:
    """Two experts of which one is idle."""
    torch.manual_seed(0)
    stem, head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, NUM_CLASSES)
    pair = nn.ModuleList(
        [
            nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
            for _ in range(2)
        ]
    )
    model = nn.ModuleDict({"stem": stem, "experts": pair, "head": head})
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    with listen(model, optimizer):
        for step in range(40):
            x, labels = batch(step)
            optimizer.zero_grad()
            hidden = stem(x).relu()
            mixed = pair[0](hidden) + 0.0 * pair[1](hidden)
            F.cross_entropy(head(mixed), labels).backward()
            optimizer.step()


def tasks(
    opposed: bool, weight: float = 1.0, penalty: bool = False, summed: bool = False
) -> Program:
    """Two heads on one trunk, each with a backward of its own unless they are `summed`."""

    def program(listen: Listen) -> None:
        torch.manual_seed(0)
        trunk, one, other = mlp(3, nn.ReLU, outputs=WIDTH), nn.Linear(WIDTH, 1), nn.Linear(WIDTH, 1)
        model = nn.ModuleList([trunk, one] if penalty else [trunk, one, other])
        if opposed:
            other.load_state_dict(one.state_dict())
        optimizer = sgd(model, 0.01, 0) if weight == 1 else adam(model, 1e-3)
        with listen(model, optimizer):
            for step in range(140 if summed else 60):
                x, _ = batch(step)
                target = x[:, :1]
                optimizer.zero_grad()
                shared = trunk(x)
                first = F.mse_loss(one(shared), 5 + target)
                if not summed:
                    first.backward(retain_graph=True)
                if penalty:
                    second = sum(p.square().sum() for p in trunk.parameters()) * 1e-4
                else:
                    second = (
                        F.mse_loss(other(shared), (-5 - target if opposed else 5 + target * 2))
                        if weight == 1
                        else (F.mse_loss(other(shared), weight * (1 + x[:, 1:2])))
                    )
                (first + second if summed else second).backward()
                optimizer.step()

    return program


def scale_of(value: float) -> Callable[[], torch.amp.GradScaler]:
    return lambda: torch.amp.GradScaler("cpu", init_scale=value)


FAULTY: dict[str, tuple[str, Program]] = {
    "Adam at 2": ("SG107", run(lambda: mlp(4, nn.Tanh), lambda m: adam(m, 2.0))),
    "SGD at 30": ("SG107", run(net, lambda m: sgd(m, 30.0, 0))),
    "regression that diverges": (
        "SG107",
        run(lambda: mlp(3, nn.ReLU, outputs=1), lambda m: sgd(m, 1.0), regress, steps=20),
    ),
    "AdamW at 1e-7": ("SG108", run(net, lambda m: torch.optim.AdamW(m.parameters(), 1e-7))),
    "SGD at 1e-6": (
        "SG108",
        run(lambda: convolutional(nn.ReLU, 2, norm=False), lambda m: sgd(m, 1e-6), steps=25),
    ),
    "a schedule that begins at zero and stays": (
        "SG113",
        run(net, adam, schedule=lambda o: LambdaLR(o, lambda step: float(step // 1000))),
    ),
    "a schedule that decays per batch": (
        "SG113",
        run(net, adam, steps=80, schedule=lambda o: ExponentialLR(o, 0.7)),
    ),
    "a group at zero": ("SG108", run(net, groups(0.0, 1e-2))),
    "a group at 1e-8 under SGD": (
        "SG108",
        run(net, groups(0.1, 1e-8, torch.optim.SGD, momentum=0.9)),
    ),
    "bfloat16 weights under Adam at 1e-5": (
        "SG106",
        run(in_dtype(torch.bfloat16), lambda m: adam(m, 1e-5), classify_in(torch.bfloat16)),
    ),
    "bfloat16 weights under SGD": (
        "SG106",
        run(in_dtype(torch.bfloat16), lambda m: sgd(m, 1e-4, 0), classify_in(torch.bfloat16)),
    ),
    "float16 weights under SGD": (
        "SG106",
        run(
            in_dtype(torch.float16), lambda m: sgd(m, 1e-4, 0), classify_in(torch.float16), steps=20
        ),
    ),
    "biases that let nothing through": ("SG104", run(silent_bias, adam)),
    "one layer that is silent": ("SG104", run(one_silent_layer, sgd)),
    "saturated sigmoid units": ("SG104", run(saturated, lambda m: adam(m, 1e-3))),
    "sigmoids that leave nothing in float16": (
        "SG101",
        run(behind_sigmoids, sgd, autocast=torch.float16, scaler=scale_of(2.0**4)),
    ),
    "a batch that is not normalised": (
        "SG103",
        run(net, lambda m: adam(m, 1e-2), outlier(30, -300.0), steps=50),
    ),
    "a loss weighted a thousandfold": (
        "SG103",
        run(net, lambda m: adam(m, 1e-3), heavy_weight, steps=40),
    ),
    "a batch with wrong labels": (
        "SG103",
        run(net, lambda m: adam(m, 1e-2), wrong_labels, steps=60),
    ),
    "a tiny loss under float16 autocast": (
        "SG105",
        run(net, adam, lambda m, t: classify(m, t) * 1e-3, autocast=torch.float16, steps=25),
    ),
    "float16 weights and a loss divided by much": (
        "SG105",
        run(
            in_dtype(torch.float16),
            lambda m: sgd(m, 10.0, 0),
            classify_in(torch.float16, 1e-4),
            steps=25,
        ),
    ),
    "a loss so small that nothing is left": (
        "SG105",
        run(net, adam, lambda m, t: classify(m, t) * 1e-7, autocast=torch.float16, steps=15),
    ),
    "targets that are all ignored": ("SG202", run(net, adam, masked, steps=20)),
    "an input column of NaN": ("SG201", run(net, adam, nan_input, steps=15)),
    "an infinite term without a gradient": ("SG202", run(net, adam, infinite_but_masked, steps=20)),
    "a NaN in a step that is skipped": (
        "SG202",
        run(net, adam, nan_input, steps=15, scaler=scale_of(8.0)),
    ),
    "gradients that overflow at any scale": (
        "SG203",
        run(net, adam, overflows(3), steps=60, scaler=scale_of(2.0**10)),
    ),
    "N(0, 1) without biases under Adam": (
        "SG102",
        run(without_biases(nn.ReLU, 1.0), lambda m: adam(m, 1e-3), steps=15),
    ),
    "N(0, 0.01) without biases under Adam": (
        "SG101",
        run(without_biases(nn.Tanh, 0.005), lambda m: adam(m, 1e-3), steps=15),
    ),
    "opposed tasks": ("SG601", tasks(opposed=True)),
    "a task in another unit": ("SG602", tasks(opposed=False, weight=1000.0)),
    "a task in another unit, in one sum": (
        "SG602",
        tasks(opposed=False, weight=1000.0, summed=True),
    ),
}

HEALTHY: dict[str, Program] = {
    "two tasks in one sum": tasks(opposed=False, summed=True),
    "Adam at 1e-2": run(net, lambda m: adam(m, 1e-2)),
    "SGD at 0.3": run(net, lambda m: sgd(m, 0.3, 0), steps=60),
    "random labels": run(net, lambda m: adam(m, 3e-3), random_labels, steps=60),
    "a policy gradient": run(
        lambda: mlp(2, nn.ReLU, outputs=2), lambda m: adam(m, 1e-2), policy, steps=80
    ),
    "fine-tuning at 1e-5": run(net, lambda m: torch.optim.AdamW(m.parameters(), 1e-5), pretrain=60),
    "a cosine that ends at zero": run(
        net, adam, steps=50, schedule=lambda o: CosineAnnealingLR(o, 50)
    ),
    "a warm-up that is cut off": run(
        net, adam, steps=30, schedule=lambda o: LambdaLR(o, lambda step: step / 1000)
    ),
    "groups a hundredfold apart": run(net, groups(1e-4, 1e-2)),
    "bfloat16 weights under Adam at 1e-3": run(
        in_dtype(torch.bfloat16), lambda m: adam(m, 1e-3), classify_in(torch.bfloat16)
    ),
    "bfloat16 weights under SGD at 0.1": run(
        in_dtype(torch.bfloat16), sgd, classify_in(torch.bfloat16)
    ),
    "bfloat16 autocast": run(net, lambda m: adam(m, 1e-4), autocast=torch.bfloat16),
    "an idle expert": experts,
    "eight points learned by heart": run(net, lambda m: adam(m, 1e-2), few, steps=120),
    "float16 autocast with a scaler": run(
        net, adam, autocast=torch.float16, scaler=scale_of(2.0**16)
    ),
    "float16 autocast with a scaler that searches": run(
        net, adam, autocast=torch.float16, scaler=scale_of(2.0**30)
    ),
    "two tasks that agree": tasks(opposed=False),
    "a penalty beside the loss": tasks(opposed=False, penalty=True),
}
