"""Two processes that train side by side without talking to each other: faults.py OUT
killed|hung|shorter|unwatched.

The second of them stops. Prints what each ends with, and how long its end took.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

import seismograd

STEPS = 12
STOPS_AT = 5


def wait_until_heard(session: Any) -> None:
    """Only a process that rank 0 has heard of can be gone; one that dies before is merely late."""
    sender = session._ranks.link
    while sender is None or sender._version < 0:
        time.sleep(0.01)
        sender = session._ranks.link


def train(out: Path | None, fault: str) -> str:
    """One plain parameter and one that is sharded; every process has the same gradient, so no
    communication is needed.
    """
    torch.manual_seed(1)
    mesh = init_device_mesh("cpu", (2,))
    plain = nn.Parameter(torch.randn(3, 4))
    sharded = nn.Parameter(
        distribute_tensor(torch.randn(6, 4), mesh, [Shard(0)], src_data_rank=None)
    )
    model = nn.Module()
    model.plain, model.sharded = plain, sharded
    optimizer = torch.optim.SGD([plain, sharded], 0.1)
    second = out is not None and dist.get_rank() == 1
    watched = out is not None and not (second and fault == "unwatched")
    session = seismograd.watch(model, optimizer, out=out, quiet=True) if watched else None
    for step in range(STEPS):
        if second and step == STOPS_AT:
            if fault == "shorter":
                break
            if fault == "killed":
                wait_until_heard(session)
                os.kill(os.getpid(), signal.SIGKILL)
            if fault == "hung":
                signal.pause()
        optimizer.zero_grad()
        (plain.square().sum() + sharded.to_local().square().sum()).backward()
        optimizer.step()
    began = time.monotonic()
    if session is not None:
        session.close()
    digest = float(plain.detach().double().sum() + sharded.to_local().detach().double().sum()).hex()
    return json.dumps({"weights": digest, "end_s": time.monotonic() - began})


if __name__ == "__main__":
    dist.init_process_group("gloo")
    print(train(None, ""), flush=True)
    print(train(Path(sys.argv[1]), sys.argv[2]), flush=True)
