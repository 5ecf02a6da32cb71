"""Trainings of several processes, each once as it is and once watched. Run as a script, in every
process, by `processes.start`.

python loops.py OUT CASE...

Every process prints one JSON line a case: the digests of its weights without and with watching.
Rank 0 leaves in OUT/CASE the record, and in OUT/CASE.npz the norms of every gradient of the same
training done by one process in float64.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

import seismograd
from seismograd.measure.sketches.gradient_sketches import sketch_gradients

STEPS = 12
ROWS = 4  # of a batch, per process


class Net(nn.Module):
    """Sizes that two do not divide, so that shards are uneven."""

    def __init__(self, hidden: int = 7) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.first = nn.Linear(6, hidden)
        self.second = nn.Linear(hidden, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(self.norm(x))))


def batch(step: int, rank: int, part: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(10_000 * part + 100 * step + rank)
    return torch.randn(ROWS, 6, generator=generator, dtype=torch.float64)


Backward = Callable[[nn.Module, int, int], Any]  # model, step, rank: loss


@dataclass(frozen=True)
class Case:
    """`make` builds the distributed model; `step` runs its backwards; `alone` those of a single
    process that has all batches.

    `loop` and `measured` are its row in docs/loops.md.
    """

    loop: str
    measured: str
    make: Callable[[], nn.Module]
    step: Callable[[nn.Module, int], None]
    alone: Callable[[nn.Module, int], None]
    hidden: int = 7
    clip: float | None = None
    steps: int = STEPS
    # after the backwards, by hand
    reduce: Callable[[nn.Module], None] = lambda model: None
    # multiplies the gradients for this limit, by hand
    clip_by_hand: Callable[[nn.Module, float], None] | None = None
    elements: tuple[str, ...] = ()


def loss_of(model: nn.Module, x: Tensor) -> Tensor:
    return model(x).square().mean()


def own_batch(model: nn.Module, step: int) -> None:
    loss_of(model, batch(step, dist.get_rank())).backward()


def all_batches(model: nn.Module, step: int) -> None:
    torch.stack(
        [loss_of(model, batch(step, rank)) for rank in range(dist.get_world_size())]
    ).mean().backward()


def two_parts(model: nn.Module, step: int) -> None:
    assert isinstance(model, DistributedDataParallel)
    with model.no_sync():
        (loss_of(model, batch(step, dist.get_rank(), 0)) / 2).backward()
    (loss_of(model, batch(step, dist.get_rank(), 1)) / 2).backward()


def two_parts_by_hand(model: nn.Module, step: int) -> None:
    for part in range(2):
        (loss_of(model, batch(step, dist.get_rank(), part)) / 2).backward()


def two_parts_of_all(model: nn.Module, step: int) -> None:
    for part in range(2):
        losses = [loss_of(model, batch(step, rank, part)) for rank in range(dist.get_world_size())]
        (torch.stack(losses).mean() / 2).backward()


def nan_on_rank_1(model: nn.Module, step: int) -> None:
    x = batch(step, dist.get_rank())
    loss = loss_of(model, x)
    if step == 5 and dist.get_rank() == 1:
        loss = loss * math.nan
    loss.backward()


def nan_alone(model: nn.Module, step: int) -> None:
    all_batches(model, step)
    if step == 5:
        for p in model.parameters():
            p.grad = torch.full_like(p, math.nan)


def same_batch(model: nn.Module, step: int) -> None:
    loss_of(model, batch(step, 0)).backward()


def sequence(model: nn.Module, step: int) -> None:
    """Each process has its rows of the one batch; the loss is of all."""
    rank, size = dist.get_rank(), dist.get_world_size()
    rows = batch(step, 0).chunk(size)[rank]
    (model(rows).square().sum() / (ROWS * 6)).backward()


def ddp() -> nn.Module:
    return DistributedDataParallel(net())


def net(hidden: int = 7) -> Net:
    torch.manual_seed(1)
    return Net(hidden).double()


def averaged_one_by_one(model: nn.Module) -> None:
    for p in model.parameters():
        dist.all_reduce(p.grad)
        p.grad /= dist.get_world_size()


def averaged_in_a_bucket(model: nn.Module) -> None:
    """In a copy that is copied back, as `torch._utils._flatten_dense_tensors` is used."""
    gradients = [p.grad for p in model.parameters()]
    bucket = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(bucket, op=dist.ReduceOp.SUM)
    bucket /= dist.get_world_size()
    for g, averaged in zip(gradients, bucket.split([g.numel() for g in gradients]), strict=True):
        g.copy_(averaged.view_as(g))


def averaged_by_gathering(model: nn.Module) -> None:
    for p in model.parameters():
        parts = [torch.empty_like(p.grad) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, p.grad)
        p.grad = torch.stack(parts).mean(0)


def averaged_in_hooks() -> nn.Module:
    """Reductions begin during the backward; the script waits for them after it."""
    model = net()
    model.works = []
    for p in model.parameters():
        p.register_post_accumulate_grad_hook(
            lambda p: model.works.append(dist.all_reduce(p.grad, async_op=True))
        )
    return model


def wait_and_divide(model: nn.Module) -> None:
    for work in model.works:
        work.wait()
    model.works.clear()
    for p in model.parameters():
        p.grad /= dist.get_world_size()


def clip_by_norm(model: nn.Module, limit: float) -> None:
    """With a norm over processes that hold the same, which is that of one."""
    square = sum(p.grad.square().sum() for p in model.parameters()).reshape(1)
    dist.all_reduce(square, op=dist.ReduceOp.MAX)
    for p in model.parameters():
        p.grad *= (limit / (square.sqrt().item() + 1e-6)) if square > limit**2 else 1.0


def fsdp() -> nn.Module:
    model = net()
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in (model.first, model.second):
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def hsdp() -> nn.Module:
    model = net()
    mesh = init_device_mesh(
        "cpu", (2, dist.get_world_size() // 2), mesh_dim_names=("replicate", "shard")
    )
    for layer in (model.first, model.second):
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def tensor_parallel() -> nn.Module:
    model = net(8)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    return parallelize_module(
        model, mesh, {"first": ColwiseParallel(), "second": RowwiseParallel()}
    )


def sequence_parallel() -> nn.Module:
    model = net(8)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    plan = {
        "norm": SequenceParallel(sequence_dim=0),
        "first": ColwiseParallel(input_layouts=Shard(0)),
        "second": RowwiseParallel(output_layouts=Shard(0)),
    }
    return parallelize_module(model, mesh, plan)


def fsdp_and_tensor_parallel() -> nn.Module:
    model = net(8)
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    parallelize_module(
        model, mesh["tensor"], {"first": ColwiseParallel(), "second": RowwiseParallel()}
    )
    return fully_shard(model, mesh=mesh["data"])


def batch_of_data_rank(model: nn.Module, step: int) -> None:
    loss_of(model, batch(step, dist.get_rank() // 2)).backward()


def batches_of_data_ranks(model: nn.Module, step: int) -> None:
    torch.stack([loss_of(model, batch(step, rank)) for rank in range(2)]).mean().backward()


CASES = {
    "ddp": Case(
        "DDP",
        "before step; the reduced gradient, of rank 0",
        ddp,
        own_batch,
        all_batches,
        elements=("first.weight[1,2]",),
    ),
    "ddp_no_sync": Case(
        "DDP, accumulation under no_sync",
        "before step; reduced with the last micro-batch",
        ddp,
        two_parts,
        two_parts_of_all,
    ),
    "ddp_clip": Case(
        "DDP and clip_grad_norm_", "before the clip", ddp, own_batch, all_batches, clip=0.05
    ),
    "ddp_nan": Case(
        "DDP, one rank's batch is NaN",
        "before step; the rank is named by its own gradients before the reduction",
        ddp,
        nan_on_rank_1,
        nan_alone,
    ),
    "by_hand": Case(
        "all_reduce of each gradient, by hand",
        "before step, after the reduction",
        net,
        own_batch,
        all_batches,
        reduce=averaged_one_by_one,
    ),
    "by_hand_clip": Case(
        "all_reduce by hand and clip_grad_norm_",
        "after the reduction, before the clip",
        net,
        two_parts_by_hand,
        two_parts_of_all,
        clip=0.05,
        reduce=averaged_one_by_one,
    ),
    "by_hand_bucket": Case(
        "all_reduce of a flat copy that is copied back",
        "before step, after the reduction",
        net,
        own_batch,
        all_batches,
        reduce=averaged_in_a_bucket,
    ),
    "by_hand_gathered": Case(
        "all_gather and a mean, by hand",
        "before step, after the reduction",
        net,
        own_batch,
        all_batches,
        reduce=averaged_by_gathering,
    ),
    "by_hand_hooks": Case(
        "all_reduce in hooks during the backward",
        "before step, after the reduction",
        averaged_in_hooks,
        own_batch,
        all_batches,
        reduce=wait_and_divide,
    ),
    "by_hand_norm": Case(
        "all_reduce by hand, then a clip by hand with a reduced norm",
        "after the reduction, before the norm is reduced",
        net,
        own_batch,
        all_batches,
        clip=0.05,
        reduce=averaged_one_by_one,
        clip_by_hand=clip_by_norm,
    ),
    "fsdp": Case(
        "fully_shard (FSDP2), uneven shards",
        "before step, each rank its shards; put together off the training's path",
        fsdp,
        own_batch,
        all_batches,
        elements=("first.weight[6,2]", "second.weight[0,6]"),
    ),
    "fsdp_clip": Case(
        "fully_shard and clip_grad_norm_",
        "before the clip, likewise; the norm of the clip is that of the whole",
        fsdp,
        own_batch,
        all_batches,
        clip=0.05,
    ),
    "tensor_parallel": Case(
        "tensor parallel (column- and row-wise)",
        "before step; shards add up, what is replicated counts once",
        tensor_parallel,
        same_batch,
        same_batch,
        hidden=8,
        elements=("first.weight[7,2]", "second.weight[2,7]"),
    ),
    "sequence_parallel": Case(
        "sequence parallel",
        "before step; summands of a normalisation are added",
        sequence_parallel,
        sequence,
        same_batch,
        hidden=8,
    ),
    "hsdp": Case(
        "HSDP, 2 × 2 processes", "before step; each replica once", hsdp, own_batch, all_batches
    ),
    "fsdp_and_tensor_parallel": Case(
        "fully_shard and tensor parallel, 2 × 2 processes",
        "before step; shards of shards",
        fsdp_and_tensor_parallel,
        batch_of_data_rank,
        batches_of_data_ranks,
        hidden=8,
    ),
}


def train(case: Case, out: Path | None) -> str:
    """The digest of what this process holds of the weights in the end."""
    model = case.make()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    watching = (
        nullcontext()
        if out is None
        else seismograd.watch(model, optimizer, out=out, elements=case.elements, quiet=True)
    )
    with watching:
        for step in range(case.steps):
            optimizer.zero_grad()
            case.step(model, step)
            case.reduce(model)
            if case.clip_by_hand is not None and case.clip is not None:
                case.clip_by_hand(model, case.clip)
            elif case.clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), case.clip)
            optimizer.step()
    digest = hashlib.sha256()
    for p in model.parameters():
        local = p.detach().to_local() if isinstance(p, DTensor) else p.detach()
        digest.update(local.contiguous().numpy().tobytes())
    return digest.hexdigest()


def reference(case: Case) -> dict[str, np.ndarray]:
    """What one process with all batches has  # (T,) for each name."""
    model = net(case.hidden)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    found: dict[str, list[Any]] = {}
    for step in range(case.steps):
        optimizer.zero_grad()
        case.alone(model, step)
        for name, p in model.named_parameters():
            g = p.grad
            assert g is not None
            found.setdefault(f"grad_norm {name}", []).append(float(g.norm()))
            found.setdefault(f"sketch {name}", []).append(sketch_gradients([g]).values[0])
            found.setdefault(f"grad_max {name}", []).append(float(g.abs().max()))
            found.setdefault(f"grad_sum {name}", []).append(float(g.sum()))
            found.setdefault(f"zeros {name}", []).append(int((g == 0).sum()))
            found.setdefault(f"weight_norm {name}", []).append(float(p.detach().norm()))
            found.setdefault(f"gradient {name}", []).append(g.clone().numpy())
        if case.clip is not None:
            total = nn.utils.clip_grad_norm_(model.parameters(), case.clip)
            if case.clip_by_hand is None:
                found.setdefault("clip_norm", []).append(float(total))
            for name, p in model.named_parameters():
                assert p.grad is not None
                found.setdefault(f"applied_norm {name}", []).append(float(p.grad.norm()))
        optimizer.step()
    return {name: np.array(values) for name, values in found.items()}


def main(out: Path, names: list[str]) -> None:
    dist.init_process_group("gloo")
    for name in names:
        case = CASES[name]
        told = {
            "case": name,
            "rank": dist.get_rank(),
            "alone": train(case, None),
            "watched": train(case, out / name),
        }
        if dist.get_rank() == 0:
            np.savez(out / f"{name}.npz", **reference(case))
        print(json.dumps(told), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
