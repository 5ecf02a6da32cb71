"""Trainings with ordinary tensors in which processes hold the same parameters, or not, and reduce
their gradients themselves: owners.py OUT CASE...

Rank 0 leaves the record in OUT/CASE and in OUT/CASE.npz the norm of every gradient, gathered from
all processes, with each different tensor once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

import seismograd

STEPS = 12


class Net(nn.Module):
    """A dense layer, one that may be an expert, and a head."""

    def __init__(self, expert_seed: int, seed: int = 0, zero_bias: bool = False) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.dense = nn.Linear(8, 8)
        torch.manual_seed(expert_seed)
        self.expert = nn.Linear(8, 8)
        torch.manual_seed(seed)
        self.head = nn.Linear(8, 3)
        if zero_bias:
            nn.init.zeros_(self.expert.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.expert(torch.tanh(self.dense(x))))


class Named(nn.Module):
    """The same with another name for the layer in the middle."""

    def __init__(self, net: Net, name: str) -> None:
        super().__init__()
        self.dense, self.head, self.name = net.dense, net.head, name
        self.add_module(name, net.expert)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.get_submodule(self.name)(torch.tanh(self.dense(x))))


class RowSplit(torch.autograd.Function):
    """Adds the partial outputs of a layer whose input is split over processes."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient


class TensorParallel(nn.Module):
    """Two layers split over the processes by hand, as Megatron-LM splits them."""

    def __init__(self, marked: bool, shared: bool) -> None:
        super().__init__()
        torch.manual_seed(50 + dist.get_rank())
        self.up, self.down = nn.Linear(8, 5), nn.Linear(5, 3, bias=False)
        nn.init.zeros_(self.up.bias)
        if shared:
            self.bias = nn.Parameter(torch.zeros(3))
        if marked:
            for p in (*self.up.parameters(), self.down.weight):
                p.tensor_model_parallel = True

    def forward(self, x: Tensor) -> Tensor:
        out = RowSplit.apply(self.down(torch.relu(self.up(x))))
        return out + self.bias if hasattr(self, "bias") else out


def reduced(*left_out: str) -> Callable[[nn.Module], None]:
    """Average the gradients of all parameters but those whose names begin so."""

    def reduce(model: nn.Module) -> None:
        for name, p in model.named_parameters():
            if not name.startswith(left_out) and p.grad is not None:
                dist.all_reduce(p.grad)
                p.grad /= dist.get_world_size()

    return reduce


def nothing(model: nn.Module) -> None:
    """Every process for itself."""


def by_pairs(model: nn.Module) -> None:
    """Two experts, each on every second process."""
    reduced("expert")(model)
    groups = [dist.new_group([0, 2]), dist.new_group([1, 3])]
    for p in model.expert.parameters():
        dist.all_reduce(p.grad, group=groups[dist.get_rank() % 2])
        p.grad /= 2


def average_weights(model: nn.Module) -> None:
    with torch.no_grad():
        for p in model.parameters():
            dist.all_reduce(p.data)
            p.data /= dist.get_world_size()


@dataclass(frozen=True)
class Case:
    """`separate`: beginnings of the names of which every process, modulo `every`, has its own."""

    make: Callable[[], nn.Module]
    reduce: Callable[[nn.Module], None]
    separate: tuple[str, ...] = ()
    every: int = 1 << 30
    same_data: bool = False
    warmup: bool = False
    only_on_0: bool = False
    after: Callable[[nn.Module], None] = nothing
    loop: str = ""  # in docs/ranks.md


def net(expert_seed: int = 0, seed: int = 0, zero_bias: bool = False) -> Net:
    return Net(expert_seed, seed, zero_bias)


EXPERT = ("expert",)
CASES = {
    "experts": Case(
        lambda: net(100 + dist.get_rank()),
        reduced("expert"),
        EXPERT,
        loop="expert parallel with ordinary tensors",
    ),
    "zero_bias": Case(
        lambda: net(100 + dist.get_rank(), 0, True),
        reduced("expert"),
        EXPERT,
        loop="the same, experts with biases of zero",
    ),
    "one_seed": Case(
        net, reduced("expert"), EXPERT, loop="the same, all experts begin with the same weights"
    ),
    "warmup": Case(
        lambda: net(100 + dist.get_rank(), 0, True),
        reduced("expert"),
        EXPERT,
        warmup=True,
        loop="the same, a learning rate that begins at zero",
    ),
    "no_tokens": Case(
        lambda: net(100 + dist.get_rank()),
        reduced("expert"),
        EXPERT,
        only_on_0=True,
        loop="the same, some experts get no tokens",
    ),
    "pairs": Case(
        lambda: net(100 + dist.get_rank() % 2),
        by_pairs,
        EXPERT,
        every=2,
        loop="expert parallel, two experts, each on two processes",
    ),
    "forgotten": Case(lambda: Named(net(), "middle"), reduced("middle"), ("middle",)),
    "never_reduced": Case(net, nothing),
    "other_seeds": Case(lambda: net(dist.get_rank(), dist.get_rank()), nothing),
    "other_seeds_reduced": Case(lambda: net(dist.get_rank(), dist.get_rank()), reduced()),
    "tensor_parallel": Case(
        lambda: TensorParallel(True, True),
        nothing,
        ("up", "down"),
        same_data=True,
        loop="tensor parallel with ordinary tensors, marked",
    ),
    "unmarked_tensor_parallel": Case(
        lambda: TensorParallel(False, True),
        nothing,
        ("up", "down"),
        same_data=True,
        loop="tensor parallel with ordinary tensors, not marked",
    ),
    "nothing_shared": Case(
        lambda: TensorParallel(False, False), nothing, ("up", "down"), same_data=True
    ),
    "averaged_weights": Case(net, nothing, after=average_weights),
}


def gathered(model: nn.Module, case: Case) -> dict[str, float]:
    """The norm of each gradient, of all different tensors of that name."""
    own = {n: None if p.grad is None else p.grad.double() for n, p in model.named_parameters()}
    of_all: list[dict[str, Tensor | None]] = [{}] * dist.get_world_size()
    dist.all_gather_object(of_all, own)
    found: dict[str, float] = {}
    for name in own:
        kept = of_all[: case.every] if name.startswith(case.separate) else of_all[:1]
        found[name] = float(sum(g.square().sum() for each in kept if (g := each[name]) is not None))
    return {name: square**0.5 for name, square in found.items()}


def train(case: Case, out: Path) -> dict[str, list[float]]:
    model = case.make()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    generator = torch.Generator().manual_seed(0 if case.same_data else dist.get_rank())
    norms: dict[str, list[float]] = {}
    with seismograd.watch(model, optimizer, out=out):
        for step in range(STEPS):
            if case.warmup:
                optimizer.param_groups[0]["lr"] = 0.05 * min(1.0, step / 3)
            x = torch.randn(16, 8, generator=generator)
            optimizer.zero_grad()
            (model(x) - x[:, :3]).square().mean().backward()
            if case.only_on_0 and dist.get_rank() and step % 3 == 1:
                for p in model.expert.parameters():
                    p.grad = None
            case.reduce(model)
            for name, norm in gathered(model, case).items():
                norms.setdefault(name, []).append(norm)
            optimizer.step()
            case.after(model)
    return norms


def main(out: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for name in names:
        norms = train(CASES[name], out / name)
        if dist.get_rank() == 0:
            np.savez(out / f"{name}.npz", **{n: np.array(v) for n, v in norms.items()})
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
