"""Trainings in which a number that is not finite arises, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import seismograd
from seismograd.record.reader import open_run
from seismograd.schema import Fact, FactKind

BATCH, WIDTH, CLASSES, STEP = 16, 6, 4, 3

LossOf = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), nn.Linear(8, CLASSES))


def births(
    loss_of: LossOf,
    path: Path,
    make: Callable[[], nn.Module] = net,
    steps: int = STEP + 1,
    lr: float = 0.05,
    **options: bool,
) -> list[Fact]:
    """Train, with samples 2 and 5 marked at step `STEP`, and return the births in the record. The
    loss is a function of model, input, labels, and a mark for each sample: 0 where it is to fail,
    else 1  # (BATCH, 1).
    """
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr)
    generator = torch.Generator().manual_seed(1)
    with seismograd.watch(model, optimizer, out=path, **options):
        for step in range(steps):
            x = torch.randn(BATCH, WIDTH, generator=generator)
            labels = torch.randint(CLASSES, (BATCH,), generator=generator)
            mark = torch.ones(BATCH, 1)
            if step == STEP:
                mark[[2, 5]] = 0
            optimizer.zero_grad()
            loss_of(model, x, labels, mark).backward()
            optimizer.step()
    return [fact for fact in open_run(path).facts if fact.kind == FactKind.BIRTH]


def births_late(path: Path, how: str, loss_of: LossOf, step_of_fault: int) -> list[Fact]:
    """The same where gradients are not seen as a step begins: in a `closure` of the step, or where
    a `scaler` leaves the step out.
    """
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    generator = torch.Generator().manual_seed(1)
    with seismograd.watch(model, optimizer, out=path):
        for step in range(step_of_fault + 1):
            x = torch.randn(BATCH, WIDTH, generator=generator)
            labels = torch.randint(CLASSES, (BATCH,), generator=generator)
            mark = torch.ones(BATCH, 1)
            if step == step_of_fault:
                mark[[2, 5]] = 0

            def closure(given: tuple[Tensor, Tensor, Tensor] = (x, labels, mark)) -> Tensor:
                optimizer.zero_grad()
                loss = loss_of(model, *given)
                loss.backward()
                return loss

            if how == "closure":
                optimizer.step(closure)
            else:
                optimizer.zero_grad()
                scaler.scale(loss_of(model, x, labels, mark)).backward()
                scaler.step(optimizer)
                scaler.update()
    return [fact for fact in open_run(path).facts if fact.kind == FactKind.BIRTH]
