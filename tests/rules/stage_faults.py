"""Training programs in two stages, each with an optimizer of its own over the same weights, and
faults that only the second one has.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.rules.programs import Listen, Program

Sensors = tuple[Tensor, Tensor]
Optimize = Callable[[nn.Module], torch.optim.Optimizer]
INPUTS, OUTPUTS, FIRST = 24, 6, 64


def readings(step: int, plant: int, scale: float = 1.0) -> Sensors:
    """Sensors of a plant and what they are to be translated into."""
    mixing = torch.randn(INPUTS, OUTPUTS, generator=torch.Generator().manual_seed(plant))
    x = torch.randn(48, INPUTS, generator=torch.Generator().manual_seed(step))
    return x, 3 * torch.tanh(x @ mixing / 4) * scale


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Linear(INPUTS, 80), nn.SiLU(), nn.Linear(80, 40), nn.SiLU(), nn.Linear(40, OUTPUTS)
    )


def adamw(lr: float) -> Optimize:
    return lambda model: torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)


def sgd(lr: float, momentum: float = 0.9) -> Optimize:
    return lambda model: torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)


def two_stages(
    optimize: Optimize,
    first: Optimize | None = None,
    *,
    cast: torch.dtype = torch.float32,
    autocast: bool = False,
    spike: int = -1,
    steps: int = 80,
) -> Program:
    """Goes on with another plant, by an optimizer that takes the place of the first one. The
    weights are cast at the beginning of the second stage.
    """

    def program(listen: Listen) -> None:
        model = network()
        with listen(model):
            optimizer = (first or adamw(4e-3))(model)
            for step in range(FIRST):
                x, wanted = readings(step, plant=1)
                optimizer.zero_grad()
                F.mse_loss(model(x), wanted).backward()
                optimizer.step()
            optimizer = optimize(model)
            model.to(cast)
            for step in range(steps):
                x, wanted = readings(step, plant=2, scale=200.0 if step == spike else 1.0)
                optimizer.zero_grad()
                with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                    answer = model(x.to(cast))
                F.mse_loss(answer.float(), wanted).backward()
                optimizer.step()

    return program


FAULTY: dict[str, tuple[str, Program]] = {
    "cast for the second stage": ("SG106", two_stages(adamw(1e-4), cast=torch.bfloat16)),
    "cast, and a few scalars move": ("SG106", two_stages(adamw(2e-4), cast=torch.bfloat16)),
    "cast, with momentum": ("SG106", two_stages(sgd(1e-5), sgd(0.02), cast=torch.bfloat16)),
    "a spike in the second stage": ("SG103", two_stages(adamw(1e-3), spike=50)),
}
HEALTHY: dict[str, Program] = {
    "float32": two_stages(adamw(1e-3)),
    "plain SGD": two_stages(sgd(0.05, 0.0), sgd(0.05, 0.0)),
    "autocast": two_stages(adamw(1e-3), autocast=True),
    "cast, and large steps": two_stages(adamw(3e-3), cast=torch.bfloat16),
}
