"""Trainings of several processes that pause: paused.py last OUT|between OUT.

last: after some steps every process does something else for ever, as a long evaluation does.
between: rank 0 pauses between the steps of two optimizers, so long that it takes its iteration for
over, and rank 1 does not.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import seismograd
from seismograd.capture.loop import iteration_end

STEPS, PAUSED_AT = 6, 3


def train_and_evaluate(out: Path) -> None:
    """The loss of a step tells its number and the rank."""
    rank = dist.get_rank()
    model = DistributedDataParallel(nn.Linear(3, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with seismograd.watch(model, optimizer, out=out, quiet=True):
        for step in range(STEPS):
            optimizer.zero_grad()
            (0 * model(torch.ones(4, 3)).mean() + 10 * step + rank).backward()
            optimizer.step()
        Path(f"{out}.pid{rank}").write_text(str(os.getpid()))
        while True:
            time.sleep(0.01)


def train_in_two_steps(out: Path) -> None:
    """Nothing is communicated, so that the processes may be at different steps."""
    rank = dist.get_rank()
    torch.manual_seed(0)
    one, other = nn.Linear(3, 2), nn.Linear(3, 2)
    first, second = (torch.optim.SGD(model.parameters(), 0.1) for model in (one, other))
    with seismograd.watch(one, other, first, second, out=out, quiet=True):
        for step in range(STEPS):
            x = torch.ones(4, 3)
            (0 * (one(x) + other(x)).mean() + 10 * step + rank).backward()
            first.step()
            if step == PAUSED_AT and rank == 0:
                patience_s, iteration_end.PATIENCE_S = iteration_end.PATIENCE_S, 0.5
                time.sleep(4)
                iteration_end.PATIENCE_S = patience_s
            second.step()


if __name__ == "__main__":
    dist.init_process_group("gloo")
    {"last": train_and_evaluate, "between": train_in_two_steps}[sys.argv[1]](Path(sys.argv[2]))
    dist.destroy_process_group()
