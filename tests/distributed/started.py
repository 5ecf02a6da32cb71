"""A script that trains in processes of its own: started.py spawn|spawn_process|fork FILE
[failing]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def train(rank: int, file: str, failing: bool = False) -> None:
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    torch.manual_seed(1)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)))
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    loader = torch.utils.data.DataLoader(torch.randn(12, 5), batch_size=2, num_workers=1)
    norms: list[list[float]] = []
    for step, x in enumerate(loader):
        optimizer.zero_grad()
        loss = (model(x + rank) - step).square().mean()
        loss.backward()
        norms.append(
            [p.grad.double().norm().item() for p in model.parameters() if p.grad is not None]
        )
        optimizer.step()
    weights = [p.detach().double().sum().item().hex() for p in model.parameters()]
    if rank == 0:
        Path(f"{file}.weights").write_text(" ".join(weights))
        Path(f"{file}.norms").write_text(json.dumps(norms))
    if failing:
        raise RuntimeError("this rank fails")
    dist.destroy_process_group()


if __name__ == "__main__":
    method, file, *rest = sys.argv[1:]
    if method == "spawn":
        mp.spawn(train, args=(file, bool(rest)), nprocs=2)
    else:
        context = mp.get_context("fork" if method == "fork" else "spawn")
        processes = [context.Process(target=train, args=(rank, file)) for rank in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        print([process.exitcode for process in processes])
    print("parent is done")
