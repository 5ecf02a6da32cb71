"""Training programs in which weight decay or eps does what it should not, and healthy ones that
look like them, in several styles.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from tests.rules.programs import WIDTH, Listen, Program, batch, mlp

Optimize = Callable[[nn.Module], torch.optim.Optimizer]


def decayed(optimize: Optimize, steps: int = 80) -> Program:
    """The plain loop."""

    def program(listen: Listen) -> None:
        model = mlp(4, nn.ReLU)
        optimizer = optimize(model)
        with listen(model, optimizer):
            for step in range(steps):
                optimizer.zero_grad()
                F.cross_entropy(model(batch(step)[0]), batch(step)[1]).backward()
                optimizer.step()

    return program


def frozen_by_zeros(optimize: Optimize, hooks: bool = False, to_none: bool = False) -> Program:
    """The first layers are to stay as they are."""

    def program(listen: Listen) -> None:
        model = mlp(3, nn.Tanh)
        optimizer = optimize(model)
        frozen = list(model[0].parameters())
        if hooks:
            for p in frozen:
                p.register_hook(torch.zeros_like)
        with listen(model, optimizer):
            for step in range(80):
                optimizer.zero_grad()
                F.cross_entropy(model(batch(step)[0]), batch(step)[1]).backward()
                for p in frozen:
                    if to_none:
                        p.grad = None
                    elif not hooks and p.grad is not None:
                        p.grad.zero_()
                optimizer.step()

    return program


def in_half(optimize: Optimize) -> Program:
    """A regression whose weights are float16."""

    def program(listen: Listen) -> None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(WIDTH, 32), nn.ReLU(), nn.Linear(32, 1)).half()
        optimizer = optimize(model)
        with listen(model, optimizer):
            for step in range(30):
                x = batch(step)[0].half()
                x[:, 3] = 0  # a feature that is always zero has no gradient
                optimizer.zero_grad()
                F.mse_loss(model(x), x[:, :1]).backward()
                optimizer.step()

    return program


def behind_a_sign(optimize: Optimize) -> Program:
    """Nothing to learn, and most layers lie before a sign, so that only the decay moves them."""

    def program(listen: Listen) -> None:
        model = mlp(4, nn.Tanh)
        optimizer = optimize(model)
        with listen(model, optimizer):
            for step in range(80):
                x, labels = batch(step)
                optimizer.zero_grad()
                out = model[6:](torch.sign(model[:6](x)))
                F.cross_entropy(out, labels.roll(1)).backward()
                optimizer.step()

    return program


def seldom_used(listen: Listen) -> None:
    """A part that is used now and then at first, as an expert that a router chooses."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"body": mlp(3, nn.Tanh), "side": nn.Linear(WIDTH, WIDTH)})
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    with listen(model, optimizer):
        for step in range(100):
            x, labels = batch(step)
            x = x + model["side"](x) if step in (0, 3, 6, 9) else x
            optimizer.zero_grad(set_to_none=False)
            F.cross_entropy(model["body"](x), labels).backward()
            optimizer.step()


def sgd(decay: float, lr: float = 0.05) -> Optimize:
    return lambda m: torch.optim.SGD(m.parameters(), lr=lr, momentum=0.9, weight_decay=decay)


def grouped(model: nn.Module) -> torch.optim.Optimizer:
    """Two groups, of which only one decays."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim < 2]
    return torch.optim.Adam(
        [{"params": weights, "weight_decay": 3.0}, {"params": others, "weight_decay": 0}], lr=1e-2
    )


FAULTY: dict[str, tuple[str, Program]] = {
    "a half": ("SG111", decayed(sgd(0.5))),
    "adam, in a group": ("SG111", decayed(grouped)),
    "decoupled": (
        "SG111",
        decayed(lambda m: torch.optim.AdamW(m.parameters(), lr=1e-3, weight_decay=100.0)),
    ),
    "behind a sign": (
        "SG109",
        behind_a_sign(lambda m: torch.optim.Adam(m.parameters(), lr=1e-2, weight_decay=5e-4)),
    ),
    "behind a sign, decoupled": (
        "SG109",
        behind_a_sign(lambda m: torch.optim.AdamW(m.parameters(), lr=1e-2, weight_decay=5.0)),
    ),
    "zeroed": (
        "SG112",
        frozen_by_zeros(lambda m: torch.optim.AdamW(m.parameters(), lr=1e-3, weight_decay=0.1)),
    ),
    "zeroed by hooks": ("SG112", frozen_by_zeros(sgd(1e-3), hooks=True)),
    "eps of nothing": ("SG112", in_half(lambda m: torch.optim.Adam(m.parameters(), lr=1e-3))),
    "eps of nothing, decoupled": (
        "SG112",
        in_half(lambda m: torch.optim.AdamW(m.parameters(), lr=1e-3, eps=1e-10)),
    ),
}
HEALTHY: dict[str, Program] = {
    "seldom used": seldom_used,
    "usual": decayed(sgd(5e-4)),
    "strong": decayed(sgd(5e-3)),
    "decoupled": decayed(
        lambda m: torch.optim.AdamW(m.parameters(), lr=3e-3, weight_decay=0.1), steps=120
    ),
    "none, zeroed": frozen_by_zeros(lambda m: torch.optim.Adam(m.parameters(), lr=3e-3)),
    "set to None": frozen_by_zeros(
        lambda m: torch.optim.AdamW(m.parameters(), lr=3e-3, weight_decay=0.1), to_none=True
    ),
}
