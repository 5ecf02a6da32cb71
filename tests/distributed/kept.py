"""Keep gradients on several processes: kept.py replicas|sharded|tensor_parallel OUT"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

import seismograd

STEP = 3


def main(how: str, out: str) -> None:
    rank = int(os.environ["RANK"])
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    model: Any = inner
    from torch.distributed.device_mesh import init_device_mesh

    if how == "replicas":
        model = nn.parallel.DistributedDataParallel(inner)
    elif how == "sharded":
        from torch.distributed.fsdp import fully_shard

        fully_shard(inner, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    else:
        from torch.distributed.tensor.parallel import (
            ColwiseParallel,
            RowwiseParallel,
            parallelize_module,
        )

        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        parallelize_module(inner, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    told: dict[str, Any] = {}
    with seismograd.watch(model, optimizer, out=out, snapshot=[f"step={STEP}"], quiet=True):
        for step in range(6):
            seed = 100 * step + (rank if how != "tensor_parallel" else 0)
            x = torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))
            optimizer.zero_grad()
            model(x).square().mean().backward()
            if step == STEP:
                for name, p in inner.named_parameters():
                    grad: Any = p.grad
                    whole = grad.full_tensor() if hasattr(grad, "full_tensor") else grad
                    told[name] = whole.tolist()
            optimizer.step()
    if rank == 0:
        print(json.dumps(told), flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
