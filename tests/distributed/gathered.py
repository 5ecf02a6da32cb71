"""A script that trains sharded models, of which watching is told nothing: gathered.py OUT"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import seismograd
from tests.distributed.loops import batch, fsdp, loss_of, net


def train(model: nn.Module, out: Path) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with seismograd.watch(out=out, quiet=True):
        for step in range(4):
            optimizer.zero_grad()
            loss_of(model, batch(step, 0)).backward()
            optimizer.step()


def main(out: Path) -> None:
    dist.init_process_group("gloo")
    train(fsdp(), out / "layers")
    whole = net()
    fully_shard(whole, mesh=init_device_mesh("cpu", (1,)))
    train(whole, out / "whole")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
