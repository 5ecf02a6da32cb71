"""Trainings whose loss goes through an exponential, and healthy ones that look like them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.rules.programs import WIDTH, Listen, Program, adam, batch

Loss = Callable[["Coder", Tensor], Tensor]


class Coder(nn.Module):
    def __init__(self, spread: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(WIDTH, 32), nn.ReLU())
        self.mean, self.log_var = nn.Linear(32, 4), nn.Linear(32, 4)
        self.back = nn.Linear(4, WIDTH)
        nn.init.normal_(self.log_var.weight, std=spread)


def elbo(model: Coder, x: Tensor) -> Tensor:
    hidden = model.body(x)
    mean, log_var = model.mean(hidden), model.log_var(hidden)
    code = mean + torch.randn_like(mean) * torch.exp(0.5 * log_var)
    divergence = 0.5 * (log_var.exp() + mean**2 - 1 - log_var).sum(1).mean()
    return F.mse_loss(model.back(code), x) + divergence


def likelihood(model: Coder, x: Tensor) -> Tensor:
    hidden = model.body(x)
    log_var = model.log_var(hidden)
    return (0.5 * (model.mean(hidden) - x[:, :4]) ** 2 * (-log_var).exp() + 0.5 * log_var).mean()


def counts(model: Coder, x: Tensor) -> Tensor:
    """Rates in the hundreds of thousands, as they should be."""
    rate = 12 + 0.1 * model.mean(model.body(x))
    return F.poisson_nll_loss(rate, torch.full_like(rate, 2e5), log_input=True)


def prices(model: Coder, x: Tensor) -> Tensor:
    """Large for its unit, with a small exponential beside it."""
    hidden = model.body(x)
    return (
        F.mse_loss(model.back(model.mean(hidden)) * 1e4, x * 1e4)
        + model.log_var(hidden).exp().mean()
    )


def trained(loss_of: Loss, spread: float, unused: tuple[str, ...] = ()) -> Program:
    def program(listen: Listen) -> None:
        model = Coder(spread)
        for name in unused:
            delattr(model, name)
        optimizer = adam(model, 1e-3)
        with listen(model, optimizer):
            for step in range(40):
                optimizer.zero_grad()
                loss_of(model, batch(step)[0]).backward()
                optimizer.step()

    return program


FAULTY: dict[str, Program] = {
    "variance of a coder": trained(elbo, 6.0),
    "variance of a likelihood": trained(likelihood, 8.0, ("back",)),
}
HEALTHY: dict[str, Program] = {
    "a coder": trained(elbo, 0.1),
    "a likelihood": trained(likelihood, 0.1, ("back",)),
    "counts": trained(counts, 0.1, ("back", "log_var")),
    "prices": trained(prices, 0.1),
}
