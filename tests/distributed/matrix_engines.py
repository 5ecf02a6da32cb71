"""The trainings of the matrix, as their users write them: how a model is distributed, what a step's
backwards are, who reduces and who clips.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FullyShardedDataParallel,
    MixedPrecision,
    MixedPrecisionPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

from tests.distributed.matrix_alone import (
    EXPERT,
    LIMIT,
    RATE,
    Net,
    batch,
    computing,
    forward,
    loss_of,
    low,
    net,
)
from tests.distributed.matrix_cells import Cell, Numbers

CPU = torch.device("cpu")


def plain_name(name: str) -> str:
    return name.replace("module.", "").replace("_fsdp_wrapped_", "")


class Engine:
    """DDP; what other engines do otherwise is below. `model` is what is watched."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.model: Any = self.make()
        self.optimizer: Any = self.make_optimizer()
        self.scaler: Any = self.make_scaler()

    @property
    def data_rank(self) -> int:
        return self.rank if self.cell.num_data == self.size else 0

    def make(self) -> nn.Module:
        return DistributedDataParallel(net(self.cell))

    def make_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.model.parameters(), **RATE)

    def make_scaler(self) -> Any:
        return torch.amp.GradScaler(
            "cpu", 1024.0, growth_interval=2, enabled=self.cell.numbers is Numbers.SCALED
        )

    def backwards(self, step: int) -> None:
        for part in range(self.cell.parts):
            self.synchronize(part == self.cell.parts - 1)
            loss = forward(self.model, batch(step, self.data_rank, part), self.cell)
            self.scaler.scale(loss / self.cell.parts).backward()

    def synchronize(self, last: bool) -> None:
        self.model.require_backward_grad_sync = last  # as no_sync

    def reduce(self) -> None:
        """By hand."""

    def clip(self) -> None:
        nn.utils.clip_grad_norm_(self.model.parameters(), LIMIT)

    def named(self) -> Iterator[tuple[str, Any]]:
        for name, p in self.model.named_parameters():
            yield plain_name(name), p

    def gradients(self) -> dict[str, Tensor]:
        """What this process has of each."""
        return {name: whole(p.grad) for name, p in self.named()}

    def norms(self) -> dict[str, float]:
        """The norms of the gradients that the processes have, gathered from them."""
        return {n: float(g.double().norm()) for n, g in self.gradients().items()}

    def weights(self) -> list[dict[str, Tensor]]:
        """The whole weights, one set for each expert."""
        return [{name: whole(p.detach()).clone() for name, p in self.named()}]


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(own: dict[str, Any]) -> list[dict[str, Any]]:
    of_all: list[dict[str, Any]] = [{}] * dist.get_world_size()
    dist.all_gather_object(of_all, own)
    return of_all


class ByHand(Engine):
    def make(self) -> nn.Module:
        return net(self.cell)

    def synchronize(self, last: bool) -> None:
        pass

    def reduce(self) -> None:
        for p in self.model.parameters():
            dist.all_reduce(p.grad)
            p.grad /= self.size


class Zero1(Engine):
    def make_optimizer(self) -> torch.optim.Optimizer:
        from torch.distributed.optim import ZeroRedundancyOptimizer

        return ZeroRedundancyOptimizer(self.model.parameters(), torch.optim.SGD, **RATE)


class Fsdp1(Engine):
    def make(self) -> nn.Module:
        dtype = low(self.cell)
        mixed = dtype and MixedPrecision(dtype, torch.float32)
        made = net(self.cell)

        def wrap(module: nn.Module) -> nn.Module:
            return FullyShardedDataParallel(
                module, use_orig_params=True, device_id=CPU, mixed_precision=mixed
            )

        made.first, made.second = wrap(made.first), wrap(made.second)
        return wrap(made)

    def make_scaler(self) -> Any:
        from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler

        return ShardedGradScaler(
            "cpu", 1024.0, growth_interval=2, enabled=self.cell.numbers is Numbers.SCALED
        )

    def synchronize(self, last: bool) -> None:
        if self.cell.numbers is Numbers.FLOAT32:  # in others, no_sync adds up what is rounded
            for module in FullyShardedDataParallel.fsdp_modules(self.model):
                module._sync_gradients = last  # as no_sync

    def clip(self) -> None:
        self.model.clip_grad_norm_(LIMIT)

    def norms(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, p in self.named():
            square = torch.zeros((), dtype=torch.float64)
            if p.grad is not None:
                square += p.grad.double().square().sum()
            dist.all_reduce(square)
            found[name] = float(square) ** 0.5
        return found

    def weights(self) -> list[dict[str, Tensor]]:
        with FullyShardedDataParallel.summon_full_params(self.model, writeback=False):
            return super().weights()


class Fsdp2(Engine):
    def mesh(self) -> Any:
        return init_device_mesh("cpu", (self.size,))

    def make(self) -> Any:
        dtype = low(self.cell)
        policy = MixedPrecisionPolicy(dtype, dtype and torch.float32)
        made, mesh = self.before(net(self.cell)), self.mesh()
        for layer in (made.first, made.second):
            fully_shard(layer, mesh=mesh, mp_policy=policy)
        return fully_shard(made, mesh=mesh, mp_policy=policy)

    def before(self, made: Net) -> Any:
        return made

    def synchronize(self, last: bool) -> None:
        self.model.set_requires_gradient_sync(last)


class Hsdp(Fsdp2):
    def mesh(self) -> Any:
        return init_device_mesh("cpu", (2, self.size // 2), mesh_dim_names=("replicate", "shard"))


class TensorParallel(ByHand):
    """What is not cut stays as it is, so that the norm is put together by hand."""

    def make(self) -> nn.Module:
        return cut(net(self.cell), init_device_mesh("cpu", (self.size,)))

    def reduce(self) -> None:
        pass

    def clip(self) -> None:
        squares = [whole(p.grad.norm()).square() for p in self.model.parameters()]
        norm = torch.stack(squares).sum().sqrt()
        nn.utils.clip_grads_with_norm_(self.model.parameters(), LIMIT, norm, foreach=False)


def cut(made: Net, mesh: Any) -> nn.Module:
    return parallelize_module(made, mesh, {"first": ColwiseParallel(), "second": RowwiseParallel()})


class Fsdp2Tensor(Fsdp2):
    def mesh(self) -> Any:
        return self.both()["data"]

    def both(self) -> Any:
        return init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))

    def before(self, made: Net) -> Any:
        return cut(made, self.both()["tensor"])

    @property
    def data_rank(self) -> int:
        return self.rank // 2

    clip = TensorParallel.clip


class Experts(ByHand):
    """The second layer is an expert, another one on every process, which gets the batches of its
    process: what it has of the loss is that of one of all processes.
    """

    def make(self) -> nn.Module:
        number = self.cell.num_experts
        members = [
            [r for r in range(self.size) if r % number == expert] for expert in range(number)
        ]
        groups = [dist.new_group(ranks) for ranks in members]
        self.replicas = groups[self.rank % number]
        return net(self.cell, self.rank % number)

    def reduce(self) -> None:
        for name, p in self.named():
            if not name.startswith(EXPERT):
                dist.all_reduce(p.grad)
            elif self.cell.num_experts < self.size:
                dist.all_reduce(p.grad, group=self.replicas)
            p.grad /= self.size

    def clip(self) -> None:
        dense, experts = torch.zeros(1), torch.zeros(1)
        for name, p in self.named():
            (experts if name.startswith(EXPERT) else dense).add_(p.grad.float().square().sum())
        dist.all_reduce(experts)
        experts /= self.size // self.cell.num_experts
        norm = (dense + experts).sqrt().reshape(())
        nn.utils.clip_grads_with_norm_(self.model.parameters(), LIMIT, norm)

    def norms(self) -> dict[str, float]:
        of_all = gathered(super().norms())
        experts = of_all[: self.cell.num_experts]
        return {
            name: sum(each[name] ** 2 for each in experts) ** 0.5
            if name.startswith(EXPERT)
            else of_all[0][name]
            for name in of_all[0]
        }

    def weights(self) -> list[dict[str, Tensor]]:
        (own,) = super().weights()
        return gathered(own)[: self.cell.num_experts]


class Fsdp2Experts(Fsdp2, Experts):
    """As torchtitan: an expert is sharded over those that have it, all else over all processes."""

    def make(self) -> Any:
        self.both = init_device_mesh("cpu", (2, 2), mesh_dim_names=("shard", "expert"))
        dtype = low(self.cell)
        policy = MixedPrecisionPolicy(dtype, dtype and torch.float32)
        made: Any = net(self.cell, self.both["expert"].get_local_rank())
        fully_shard(made.second, mesh=self.both["shard"], mp_policy=policy)
        made.second.set_gradient_divide_factor(self.size)
        made.second.set_force_sum_reduction_for_comms(True)  # gloo divides by no other factor
        return fully_shard(made, mesh=self.mesh(), mp_policy=policy)

    def reduce(self) -> None:
        pass

    def clip(self) -> None:
        dense, experts = torch.zeros(()), torch.zeros(())
        for name, p in self.named():
            norm = whole(p.grad.norm()).float()
            (experts if name.startswith(EXPERT) else dense).add_(norm.square())
        dist.all_reduce(experts, group=self.both["expert"].get_group())
        norm = (dense + experts).sqrt()
        nn.utils.clip_grads_with_norm_(self.model.parameters(), LIMIT, norm, foreach=False)


class Stage(nn.Module):
    """One or more layers of the net, under their names there."""

    def __init__(self, made: Net, names: tuple[str, ...], cell: Cell) -> None:
        super().__init__()
        self.names, self.cell = names, cell
        for name in names:
            self.add_module(name, made.get_submodule(name))

    def forward(self, x: Tensor) -> Tensor:
        behind = {"first": torch.relu, "second": torch.tanh}
        with computing(self.cell):
            for name in self.names:
                x = self.get_submodule(name)(x)
                x = behind[name](x) if name in behind else x
        return x


class Pipeline(Engine):
    """GPipe; each micro-batch of the step is one of its own."""

    def make(self) -> nn.Module:
        from torch.distributed.pipelining import PipelineStage, ScheduleGPipe

        stages = {
            2: (("norm", "first"), ("second", "last")),
            4: (("norm",), ("first",), ("second",), ("last",)),
        }[self.num_stages]
        own = Stage(net(self.cell), stages[self.number], self.cell)
        stage = PipelineStage(own, self.number, len(stages), CPU, group=self.group())
        self.schedule = ScheduleGPipe(stage, self.cell.parts, loss_fn=loss_of)
        return own

    @property
    def num_stages(self) -> int:
        return self.size

    @property
    def number(self) -> int:
        return self.rank

    def group(self) -> Any:
        return None

    def backwards(self, step: int) -> None:
        x = torch.cat([batch(step, self.data_rank, part) for part in range(self.cell.parts)])
        given = x.bfloat16() if self.cell.numbers is Numbers.BFLOAT16 else x
        arguments = (given,) if self.number == 0 else ()
        is_last = self.number == self.num_stages - 1
        self.schedule.step(*arguments, target=x if is_last else None, losses=[])

    def clip(self) -> None:
        square = sum(p.grad.float().square().sum() for p in self.model.parameters()).reshape(1)
        dist.all_reduce(square, group=self.group())
        norm = square.sqrt().reshape(())
        nn.utils.clip_grads_with_norm_(self.model.parameters(), LIMIT, norm)

    def norms(self) -> dict[str, float]:
        return {k: v for each in gathered(super().norms()) for k, v in each.items()}

    def weights(self) -> list[dict[str, Tensor]]:
        (own,) = super().weights()
        return [{k: v for each in gathered(own) for k, v in each.items()}]


class PipelineOfReplicas(Pipeline):
    """Two stages, each of which two processes have."""

    num_stages = 2

    @property
    def number(self) -> int:
        return self.rank // 2

    @property
    def data_rank(self) -> int:
        return self.rank % 2

    def group(self) -> Any:
        if not hasattr(self, "mesh"):
            self.mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("pipeline", "data"))
        return self.mesh["pipeline"].get_group()

    def reduce(self) -> None:
        """By hand: DDP takes no second forward before the first backward."""
        for p in self.model.parameters():
            dist.all_reduce(p.grad, group=self.mesh["data"].get_group())
            p.grad /= 2


ENGINES: dict[str, type[Engine]] = {
    "ddp": Engine,
    "by_hand": ByHand,
    "zero_1": Zero1,
    "fsdp1": Fsdp1,
    "fsdp2": Fsdp2,
    "hsdp": Hsdp,
    "tp": TensorParallel,
    "pp": Pipeline,
    "ep": Experts,
    "ep_pairs": Experts,
    "fsdp2_tp": Fsdp2Tensor,
    "fsdp2_ep": Fsdp2Experts,
    "pp_data": PipelineOfReplicas,
}
