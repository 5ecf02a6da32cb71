"""Train guarded on several processes: guarded.py replicas|separate|unsynced|sharded OUT"""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import seismograd

BAD, HUGE = 14, 18


def main(how: str, out: str) -> None:
    rank = int(os.environ["RANK"])
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    model: Any = inner
    if how in ("replicas", "unsynced"):
        model = DistributedDataParallel(inner)
    elif how == "sharded":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        fully_shard(inner, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with seismograd.watch(model, optimizer, out=out, guard=True, quiet=True):
        for step in range(24):
            x = torch.randn(8, 4, generator=torch.Generator().manual_seed(100 * step + rank))
            optimizer.zero_grad()
            with model.no_sync() if how == "unsynced" else nullcontext():
                loss = (model(x) - 1).square().mean()
                if rank == 1 and step == BAD:  # one process alone has seen the bad batch
                    loss = loss * float("nan")
                if rank == 0 and step == HUGE:
                    loss = loss * 1e7
                loss.backward()
            optimizer.step()
    held = [p.to_local() if hasattr(p, "to_local") else p for p in model.parameters()]  # pyright: ignore
    weights = [p.detach().double().sum().item().hex() for p in held]
    steps = [int(s["step"]) for s in optimizer.state.values()][:1]
    print(json.dumps({"rank": rank, "weights": weights, "steps": steps}), flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
