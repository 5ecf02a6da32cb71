"""python -m benchmarks.birth.cost: what holding calls and operands costs a healthy step; steps with
and without take turns in one process.
Times are those of the processor, with one thread (OMP_NUM_THREADS=1).
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seismograd.capture.birth.held_calls import HeldCalls
from seismograd.capture.birth.singular_operands import LossOperands

BLOCK = 5  # steps in turn


def perceptron() -> tuple[nn.Module, Tensor, int]:
    """Return a small model, an input and the number of blocks."""
    model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    return model, torch.randn(64, 784), 200


def transformer() -> tuple[nn.Module, Tensor, int]:
    """Return one whose step takes a tenth of a second or more."""
    layers = [nn.TransformerEncoderLayer(128, 4, 512, batch_first=True) for _ in range(4)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 32, 10))
    return model, torch.randn(16, 32, 128), 12


def measure(make: Callable[[], tuple[nn.Module, Tensor, int]]) -> tuple[float, float]:
    """Return the medians of steps without and with, in seconds."""
    model, x, num_blocks = make()
    labels = torch.randint(10, (len(x),))
    optimizer = torch.optim.AdamW(model.parameters())
    calls, operands = HeldCalls(), LossOperands()
    calls.follow([model])
    first = [next(model.parameters())]
    times: dict[bool, list[float]] = {False: [], True: []}
    for step in range(2 * BLOCK * num_blocks):
        calls.is_paused = (step // BLOCK) % 2 == 0
        began = time.thread_time()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        if not calls.is_paused:
            operands.hold([loss.grad_fn], max((c.last for c in calls.calls), default=-1))
        loss.backward()
        if not calls.is_paused:
            operands.losses.clear()
            calls.drop(first)
        optimizer.step()
        if step >= 2 * BLOCK:
            times[not calls.is_paused].append(time.thread_time() - began)
    calls.stop()
    return statistics.median(times[False]), statistics.median(times[True])


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for each in (perceptron, transformer):
        bare, held = measure(each)
        logging.info(
            "%s: bare %.3f ms, with %.3f ms: %+.2f %%",
            each.__name__,
            bare * 1e3,
            held * 1e3,
            100 * (held / bare - 1),
        )
