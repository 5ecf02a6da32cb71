"""Small models, digitised batches of uneven size, and the gradient of all of them as one batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]
Loss = Callable[[nn.Module, Batch], Tensor]


def net(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).to(dtype)


def batches(sizes: Sequence[int], dtype: torch.dtype = torch.float64) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(n, 5, generator=generator, dtype=dtype),
            torch.randint(3, (n,), generator=generator),
        )
        for n in sizes
    ]


def joined(parts: Sequence[Batch]) -> Batch:
    return torch.cat([inputs for inputs, _ in parts]), torch.cat([targets for _, targets in parts])


def mean_loss(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1], ignore_index=-1)


def gradients(model: nn.Module) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]


def gradient_of_all(model: nn.Module, parts: Sequence[Batch]) -> list[Tensor]:
    twin = copy.deepcopy(model)
    mean_loss(twin, joined(parts)).backward()
    return gradients(twin)


class Keeper(torch.optim.SGD):
    """SGD that keeps a copy of each gradient that it consumed."""

    def __init__(self, model: nn.Module, lr: float = 0.1) -> None:
        super().__init__(model.parameters(), lr)
        self.model = model
        self.consumed: list[list[Tensor]] = []

    def step(self, closure: None = None) -> None:
        self.consumed.append(gradients(self.model))
        super().step(closure)
