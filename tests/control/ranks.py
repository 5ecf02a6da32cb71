"""A script for torchrun: two processes accumulate together, and each tells how far its gradients
are from those of one batch.

Prints one JSON line a case: the largest relative error over its windows, how many there were, and
whether the next window was as usual.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

import seismograd
from tests.control.models import (
    Batch,
    batches,
    gradient_of_all,
    gradients,
    joined,
    mean_loss,
    net,
)

NUM = 2

# By rank: how many samples each of its micro-batches has.
EVEN = ((3, 5, 2, 4), (6, 1, 4, 4))
SHORT = ((3, 5, 2, 4), (6, 1, 7))  # the last window of rank 1 has one micro-batch
EMPTY = ((3, 5, 2), (6, 1))  # the last window of rank 1 has none


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def parts(sizes: Sequence[Sequence[int]], rank: int) -> list[Batch]:
    """What a rank has: its share of samples that all of them draw together."""
    everything = batches([size for each in sizes for size in each])
    start = sum(len(each) for each in sizes[:rank])
    return everything[start : start + len(sizes[rank])]


def window_of_all(sizes: Sequence[Sequence[int]], number: int) -> list[Batch]:
    return [
        batch
        for rank in range(len(sizes))
        for batch in parts(sizes, rank)[number * NUM : (number + 1) * NUM]
    ]


class Compared(torch.optim.SGD):
    """Compares what it consumes with the gradient of a plain model on all samples of the window."""

    def __init__(self, model: nn.Module, twin: nn.Module, sizes: Sequence[Sequence[int]]) -> None:
        super().__init__(model.parameters(), 0.1)
        self.model, self.twin, self.sizes = model, twin, sizes
        self.errors: list[float] = []

    def step(self, closure: None = None) -> None:
        expected = gradient_of_all(self.twin, window_of_all(self.sizes, len(self.errors)))
        used = [whole(g) for g in gradients(self.model)]
        self.errors.append(
            max(float((a - b).norm() / b.norm()) for a, b in zip(used, expected, strict=True))
        )
        for parameter, gradient in zip(self.twin.parameters(), expected, strict=True):
            parameter.data -= 0.1 * gradient
        super().step(closure)


def ddp(**options: Any) -> nn.Module:
    return DistributedDataParallel(net(), **options)


class Buffered(nn.Sequential):
    """The same network with a buffer, which DistributedDataParallel broadcasts before a forward
    pass.
    """

    def __init__(self) -> None:
        super().__init__(*net())
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return super().forward(x)


def fsdp() -> nn.Module:
    model = net()
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    fully_shard(model[0], mesh=mesh)
    return fully_shard(model, mesh=mesh)


def windows(
    model: nn.Module, sizes: Sequence[Sequence[int]], out: Path | None = None, **options: Any
) -> dict[str, Any]:
    optimizer = Compared(model, net(), sizes)
    session = None if out is None else seismograd.watch(model, optimizer, out=out)
    norms = []
    for window in seismograd.accumulate(
        parts(sizes, dist.get_rank()), NUM, model=model, optimizer=optimizer, **options
    ):
        for batch in window:
            window.backward(mean_loss(model, batch), weight=len(batch[1]))
        norms.append(float(window.step(max_norm=1e9) or 0.0))
    if session is not None:
        session.close()
    return {
        "error": max(optimizer.errors),
        "windows": len(optimizer.errors),
        "norms": norms,
        **afterwards(model),
    }


def afterwards(model: nn.Module) -> dict[str, Any]:
    """A plain backward reduces over the processes again."""
    mean_loss(model, parts(EVEN, dist.get_rank())[0]).backward()
    total = float(torch.stack([whole(g).square().sum() for g in gradients(model)]).sum())
    model.zero_grad()
    return {"afterwards": total}


def plain_object(model: nn.Module, sizes: Sequence[Sequence[int]]) -> dict[str, Any]:
    optimizer = Compared(model, net(), sizes)
    with seismograd.accumulate(model=model, optimizer=optimizer) as window:
        for number, batch in enumerate(parts(sizes, dist.get_rank())):
            window.backward(mean_loss(model, batch), weight=len(batch[1]))
            if number % NUM == NUM - 1:
                window.step()
    return {"error": max(optimizer.errors), "windows": len(optimizer.errors), **afterwards(model)}


def weight_zero(model: nn.Module) -> dict[str, Any]:
    """A micro-batch without any target, the last of its window, on one process only."""
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    mine = parts(EVEN, dist.get_rank())[:NUM]
    if dist.get_rank() == 1:
        mine[1][1][:] = -1
    counted = [batch for rank in range(2) for batch in parts(EVEN, rank)[: NUM if rank == 0 else 1]]
    used: list[Tensor] = []
    optimizer.register_step_pre_hook(lambda *_: used.extend(gradients(model)))
    for window in seismograd.accumulate(mine, NUM, model=model, optimizer=optimizer):
        for batch in window:
            window.backward(mean_loss(model, batch), weight=int((batch[1] != -1).sum()))
        window.step()
    expected = gradient_of_all(net(), counted)
    return {
        "error": max(float((a - b).norm() / b.norm()) for a, b in zip(used, expected, strict=True)),
        "windows": 1,
        **afterwards(model),
    }


def refused(model: nn.Module) -> dict[str, Any]:
    try:
        windows(model, SHORT)
    except seismograd.SeismogradError as error:
        return {"refused": error.line()}
    return {}


def clipped(model: nn.Module) -> dict[str, Any]:
    """The norm of a sharded gradient is that of the whole one."""
    mean_loss(model, parts(EVEN, 0)[0]).backward()
    exact = {
        2.0: gradient_norm(2.0),
        float("inf"): gradient_norm(float("inf")),
        1.0: gradient_norm(1.0),
    }
    errors = [
        abs(float(seismograd.clip_grad_norm_(model.parameters(), 1e9, order)) / norm - 1)
        for order, norm in exact.items()
    ]
    seismograd.clip_grad_norm_(model.parameters(), 0.01)
    after = float(torch.stack([whole(g).square().sum() for g in gradients(model)]).sum().sqrt())
    model.zero_grad()
    return {"error": max(errors), "after": after, "units": units_error(model)}


def units_error(model: nn.Module) -> float:
    """A sharded gradient is clipped by unit as a whole one is."""
    twin = net()
    for one in (model, twin):
        mean_loss(one, parts(EVEN, 0)[0]).backward()
        seismograd.clip_grad_unit_(one.parameters(), 0.05)
    return max(
        float((whole(a) - b).norm() / b.norm())
        for a, b in zip(gradients(model), gradients(twin), strict=True)
    )


def gradient_norm(order: float) -> float:
    flat = torch.cat([g.flatten() for g in gradient_of_all(net(), [joined(parts(EVEN, 0)[:1])])])
    return float(torch.linalg.vector_norm(flat, order))


def main() -> None:
    out = Path(sys.argv[1])
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    cases = {
        "ddp even": lambda: windows(ddp(), EVEN, out / "even"),
        "ddp short": lambda: windows(ddp(), SHORT),
        "ddp empty": lambda: windows(ddp(), EMPTY, out / "empty"),
        "ddp plain": lambda: plain_object(ddp(), EVEN),
        "ddp zero": lambda: weight_zero(ddp()),
        "ddp buckets": lambda: windows(ddp(gradient_as_bucket_view=True), EMPTY),
        "ddp unused": lambda: windows(ddp(find_unused_parameters=True), SHORT),
        "ddp buffers": lambda: windows(DistributedDataParallel(Buffered()), EMPTY),
        "ddp zero, unused": lambda: weight_zero(ddp(find_unused_parameters=True)),
        "fsdp even": lambda: windows(fsdp(), EVEN),
        "fsdp plain": lambda: plain_object(fsdp(), EVEN),
        "fsdp short": lambda: windows(fsdp(), SHORT, keep_unsharded=True),
        "fsdp refused": lambda: refused(fsdp()),
        "fsdp clip": lambda: clipped(fsdp()),
    }
    for name, case in cases.items():
        print(json.dumps({"case": name, "rank": dist.get_rank(), **case()}), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
