"""What watching costs a training with two optimizers, whose visits Python makes.

python benchmarks/several_optimizers.py

In turns of 200 steps in one process: bare, and watched at the level `normal`, without the first
steps of each. Medians of the steps, and means, which have all that is rare; over those of the bare
turn before.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import seismograd

BATCH, WIDTH, NUM_STEPS, NUM_FIRST, NUM_TURNS = 64, 784, 200, 130, 9

Parts = tuple[tuple[nn.Module, nn.Module], tuple[torch.optim.Optimizer, torch.optim.Optimizer]]
Training = tuple[Parts, Callable[[], None]]


def mlp(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, outputs))


def parts(one: nn.Module, other: nn.Module) -> Parts:
    adams = (torch.optim.Adam(one.parameters(), 1e-3), torch.optim.Adam(other.parameters(), 1e-3))
    return (one, other), adams


def in_turn() -> Training:
    """Two networks, each with a loss and a step of its own."""
    made = parts(mlp(WIDTH, 10), mlp(WIDTH, 10))
    x, labels = torch.randn(BATCH, WIDTH), torch.randint(10, (BATCH,))

    def step() -> None:
        for model, optimizer in zip(*made, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(model(x), labels).backward()
            optimizer.step()

    return made, step


def of_one_loss() -> Training:
    """An encoder and a head, each with an optimizer of its own."""
    made = parts(mlp(WIDTH, 64), mlp(64, 10))
    (encoder, head), optimizers = made
    x, labels = torch.randn(BATCH, WIDTH), torch.randint(10, (BATCH,))

    def step() -> None:
        for optimizer in optimizers:
            optimizer.zero_grad()
        F.cross_entropy(head(encoder(x)), labels).backward()
        for optimizer in optimizers:
            optimizer.step()

    return made, step


def gan() -> Training:
    """A generator, and a discriminator that learns from real and generated samples."""
    made = parts(mlp(64, WIDTH), mlp(WIDTH, 1))
    (generator, critic), (of_generator, of_critic) = made
    real, noise = torch.randn(BATCH, WIDTH), torch.randn(BATCH, 64)
    judge = F.binary_cross_entropy_with_logits
    ones, zeros = torch.ones(BATCH, 1), torch.zeros(BATCH, 1)

    def step() -> None:
        fake = generator(noise)
        of_critic.zero_grad()
        (judge(critic(real), ones) + judge(critic(fake.detach()), zeros)).backward()
        of_critic.step()
        of_generator.zero_grad()
        judge(critic(fake), ones).backward()
        of_generator.step()

    return made, step


TRAININGS = {"two networks in turn": in_turn, "two of one loss": of_one_loss, "a GAN": gan}


def times(step: Callable[[], None]) -> np.ndarray:
    """Return the time of each step in µs."""
    taken = np.empty(NUM_STEPS)
    for i in range(NUM_STEPS):
        began = perf_counter()
        step()
        taken[i] = perf_counter() - began
    return taken * 1e6


def measured(make: Callable[[], Training]) -> tuple[float, float, float]:
    """Return the bare step in µs, and by which shares the median and the mean of a watched one are
    above it.
    """
    (_, bare), ((models, optimizers), watched) = make(), make()
    found: list[tuple[float, float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(NUM_TURNS):
            alone = times(bare)
            out = Path(folder) / str(turn)
            with seismograd.watch(*models, *optimizers, out=out, quiet=True):
                for _ in range(NUM_FIRST):
                    watched()
                seen = times(watched)
            found.append(
                (
                    float(np.median(alone)),
                    float(np.median(seen) / np.median(alone)) - 1,
                    float(np.mean(seen) / np.mean(alone)) - 1,
                )
            )
    step, median, mean = np.median(found[1:], axis=0)
    return float(step), float(median), float(mean)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("| | bare step, µs | median of a watched one | mean |\n|---|---|---|---|")
    for name, make in TRAININGS.items():
        step, median, mean = measured(make)
        print(f"| {name} | {step:.0f} | {median:+.0%} | {mean:+.0%} |", flush=True)


if __name__ == "__main__":
    main()
