"""A script for torchrun on two nodes: each process has half of every parameter.

With CLOSED the port of rank 0 cannot be reached from the second node.
"""

from __future__ import annotations

import os
import socket

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard

if os.environ.get("CLOSED") and os.environ["RANK"] == "1":

    def refuse(*args: object, **kwargs: object) -> None:
        raise ConnectionRefusedError("no route to host")

    socket.create_connection = refuse  # type: ignore[assignment]

dist.init_process_group("gloo")
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
for layer in model:
    if isinstance(layer, nn.Linear):
        fully_shard(layer)
fully_shard(model)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for step in range(12):
    torch.manual_seed(100 * step + dist.get_rank())
    optimizer.zero_grad()
    model(torch.randn(4, 6)).square().mean().backward()
    optimizer.step()
dist.destroy_process_group()
