"""Trainings with the engines of torch that show no DTensors: engines.py OUT CASE...

Rank 0 leaves the record in OUT/CASE, and in OUT/CASE.npz what one process with all data has.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy
from torch.nn.parallel import DistributedDataParallel

import seismograd
from tests.distributed.loops import (
    ROWS,
    Case,
    all_batches,
    batch,
    loss_of,
    net,
    own_batch,
    reference,
)

STEPS = 12
LIMIT = 0.05
CPU = torch.device("cpu")


def flat(
    original: bool,
    strategy: ShardingStrategy = ShardingStrategy.FULL_SHARD,
    dtype: torch.dtype = torch.float64,
) -> nn.Module:
    def wrap(module: nn.Module) -> nn.Module:
        return FullyShardedDataParallel(
            module, use_orig_params=original, sharding_strategy=strategy, device_id=CPU
        )

    model = net().to(dtype)
    model.register_forward_pre_hook(lambda _, args: (args[0].to(dtype),))
    model.first = wrap(model.first)
    return wrap(model)


class Bucketed(nn.Module):
    """As Megatron-LM's distributed optimizer: gradients are accumulated in one float32 buffer of
    which every parameter has a view, `main_grad`; `grad` is none, and each process updates a part.
    """

    def __init__(self) -> None:
        super().__init__()
        self.net = net()
        parameters = list(self.net.parameters())
        size = dist.get_world_size()
        numel = sum(p.numel() for p in parameters)
        self.part = -(-numel // size)
        self.buffer = torch.zeros(self.part * size, dtype=torch.float64)
        self.weights = torch.zeros_like(self.buffer)
        start = 0
        for p in parameters:
            p.main_grad = self.buffer[start : start + p.numel()].view_as(p)
            view = self.weights[start : start + p.numel()].view_as(p)
            view.copy_(p.detach())
            p.data = view
            p.register_post_accumulate_grad_hook(self._accumulate)
            start += p.numel()
        rank = dist.get_rank()
        own = slice(rank * self.part, (rank + 1) * self.part)
        self.own = nn.Parameter(self.weights[own].clone())
        self.own_range = own

    @staticmethod
    def _accumulate(p: Tensor) -> None:
        p.main_grad.add_(p.grad)
        p.grad = None

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def reduce(self) -> None:
        part = torch.empty(self.part, dtype=torch.float64)
        dist.reduce_scatter_tensor(part, self.buffer)
        self.own.grad = part / dist.get_world_size()

    def gather(self) -> None:
        dist.all_gather_into_tensor(self.weights, self.own.detach())
        self.buffer.zero_()


def data_parallel(model: nn.Module, out: Path, clip: bool = False) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    with seismograd.watch(model, optimizer, out=out):
        for step in range(STEPS):
            optimizer.zero_grad()
            own_batch(model, step)
            if clip:
                model.clip_grad_norm_(LIMIT)
            optimizer.step()


def zero_1(out: Path) -> None:
    # torch warns when it is imported
    from torch.distributed.optim import ZeroRedundancyOptimizer

    model = DistributedDataParallel(net())
    optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9)
    with seismograd.watch(model, optimizer, out=out):
        for step in range(STEPS):
            optimizer.zero_grad()
            own_batch(model, step)
            optimizer.step()


def bucketed(out: Path) -> None:
    model = Bucketed()
    optimizer = torch.optim.SGD([model.own], 0.1, momentum=0.9)
    with seismograd.watch(model, optimizer, out=out):
        for step in range(STEPS):
            optimizer.zero_grad()
            own_batch(model, step)
            model.reduce()
            optimizer.step()
            model.gather()


def pipeline(out: Path, *, is_scaled: bool = True) -> None:
    """Two stages, two micro-batches."""
    from torch.distributed.pipelining import PipelineStage, ScheduleGPipe

    whole = net()
    rank = dist.get_rank()
    parts = (
        nn.Sequential(whole.norm, whole.first, nn.ReLU()),
        nn.Sequential(whole.second),
    )
    names = ({"norm": whole.norm, "first": whole.first}, {"second": whole.second})[rank]
    stage_module = nn.Module()
    for name, module in names.items():
        stage_module.add_module(name, module)
    stage = PipelineStage(parts[rank], rank, 2, torch.device("cpu"))
    schedule = ScheduleGPipe(
        stage, 2, loss_fn=lambda output, _: output.square().mean(), scale_grads=is_scaled
    )
    rate = 0.1 if is_scaled else 0.05  # so that the weights are the same
    optimizer = torch.optim.SGD(stage_module.parameters(), rate, momentum=0.9)
    with seismograd.watch(stage_module, optimizer, out=out):
        for step in range(STEPS):
            optimizer.zero_grad()
            rows = batch(step, 0)
            if rank == 0:
                schedule.step(rows)
            else:
                schedule.step(target=torch.zeros(ROWS, 6, dtype=torch.float64), losses=[])
            optimizer.step()


def one_batch(model: nn.Module, step: int) -> None:
    loss_of(model, batch(step, 0)).backward()


@dataclass(frozen=True)
class Engine:
    """`loop` is its name in docs/ranks.md; `by_parameter`: each parameter has a column."""

    loop: str
    train: Callable[[Path], None]
    by_parameter: bool = True
    tolerance: float = 1e-9
    clip: bool = False
    one_batch: bool = False
    found: list[str] = field(default_factory=list)  # of SG307
    times: float = 1.0  # the gradients of one process


NO_SHARD = ShardingStrategy.NO_SHARD
ENGINES = {
    "flat": Engine(
        "FullyShardedDataParallel (the first FSDP)",
        lambda out: data_parallel(flat(False), out),
        by_parameter=False,
    ),
    "original": Engine(
        "FullyShardedDataParallel, `use_orig_params=True`",
        lambda out: data_parallel(flat(True), out),
    ),
    "original_clip": Engine(
        "FullyShardedDataParallel and its `clip_grad_norm_`, float32",
        lambda out: data_parallel(flat(True, dtype=torch.float32), out, True),
        tolerance=1e-5,
        clip=True,
    ),
    "no_shard": Engine(
        "FullyShardedDataParallel, `NO_SHARD`",
        lambda out: data_parallel(flat(True, NO_SHARD), out),
    ),
    "zero_1": Engine("DDP and ZeroRedundancyOptimizer", zero_1),
    "bucketed": Engine(
        "`main_grad` in one buffer, `reduce_scatter`, a part for each optimizer (as Megatron-LM)",
        bucketed,
        by_parameter=False,
    ),
    "pipeline": Engine(
        "`torch.distributed.pipelining`, GPipe, two micro-batches", pipeline, one_batch=True
    ),
    "pipeline_sum": Engine(
        "the same without `scale_grads`, which SG307 tells",
        lambda out: pipeline(out, is_scaled=False),
        one_batch=True,
        found=["SG307"],
        times=2.0,
    ),
}


def main(out: Path, names: list[str]) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for name in names:
        engine = ENGINES[name]
        engine.train(out / name)
        if dist.get_rank() == 0:
            alone = one_batch if engine.one_batch else all_batches
            case = Case("", "", net, own_batch, alone, clip=LIMIT if engine.clip else None)
            np.savez(out / f"{name}.npz", **reference(case))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
