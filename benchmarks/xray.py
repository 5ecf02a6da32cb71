"""Measure what an X-ray costs: a step that is sampled, and one that is not, beside a session that
never samples.

python -m benchmarks.xray
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor, nn

from seismograd.capture.hub import HUB
from seismograd.capture.session import Session
from seismograd.capture.xray.xray import XraySchedule
from seismograd.measure.backend_selection import make_backend

ROUNDS, STEPS, SKIPPED = 5, 40, 8
NEVER, LATER, ALWAYS = None, XraySchedule(10**6, 1.0, 1.0), XraySchedule(1, 1e9, 1e9)
Subject = tuple[str, nn.Module, Tensor]


def subjects() -> list[Subject]:
    """Return models with their names and a batch for each."""
    layers = [each for _ in range(8) for each in (nn.Linear(256, 256), nn.ReLU())]
    convolutions: list[nn.Module] = [nn.Conv2d(3, 32, 3, padding=1)]
    for _ in range(5):
        convolutions += [nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1)]
    block = nn.TransformerEncoderLayer(128, 4, 256, dropout=0.0, batch_first=True)
    return [
        ("8 linear layers of 256", nn.Sequential(*layers), torch.randn(128, 256)),
        ("6 convolutions of 32", nn.Sequential(*convolutions), torch.randn(16, 3, 32, 32)),
        (
            "4 transformer blocks of 128",
            nn.TransformerEncoder(block, 4, enable_nested_tensor=False),
            torch.randn(16, 64, 128),
        ),
    ]


def step_times_s(model: nn.Module, batch: Tensor, schedule: XraySchedule | None) -> list[float]:
    """Return the seconds of each step but the first ones."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    session = Session(make_backend(), [model], xray=schedule)
    HUB.attach(session)
    times: list[float] = []
    for _ in range(STEPS):
        began_s = time.perf_counter()
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
        times.append(time.perf_counter() - began_s)
    HUB.detach(session)
    session.finish()
    return times[SKIPPED:]


def main() -> None:
    """Print a table; rounds take turns, so that a slow moment of the machine concerns all."""
    torch.set_num_threads(1)
    print("| model | never sampled, ms | not sampled, ms | sampled, ms |")
    print("|---|---|---|---|")
    for name, model, batch in subjects():
        times: tuple[list[float], ...] = ([], [], [])
        for number in range(ROUNDS):
            kinds = list(zip(times, (NEVER, LATER, ALWAYS), strict=True))
            for kept, schedule in kinds if number % 2 else kinds[::-1]:
                kept += step_times_s(model, batch, schedule)
        print(
            f"| {name} | {' | '.join(f'{1e3 * statistics.median(each):.2f}' for each in times)} |"
        )


if __name__ == "__main__":
    main()
