"""Trainings of two processes that clip by a right norm, or by a wrong one, as users have written
them: clips.py OUT CASE...
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

import seismograd
from tests.distributed.owners import Net, reduced

STEPS = 16
LIMIT = 0.5


def square(parameters: list[nn.Parameter]) -> Tensor:
    return torch.stack([p.grad.square().sum() for p in parameters]).sum().reshape(1)


def parts(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """What every process has, and its expert."""
    named = list(model.named_parameters())
    return (
        [p for name, p in named if not name.startswith("expert")],
        [p for name, p in named if name.startswith("expert")],
    )


def clip(model: nn.Module, norm: Tensor) -> None:
    nn.utils.clip_grads_with_norm_(list(model.parameters()), LIMIT, norm.reshape(()))


def right(model: nn.Module) -> None:
    dense, expert = parts(model)
    experts = square(expert)
    dist.all_reduce(experts)
    clip(model, (square(dense) + experts).sqrt())


def in_two_calls(model: nn.Module) -> None:
    dense, expert = parts(model)
    experts = square(expert)
    dist.all_reduce(experts)
    norm = (square(dense) + experts).sqrt().reshape(())
    for some in (dense, expert):
        nn.utils.clip_grads_with_norm_(some, LIMIT, norm)


def averaged(model: nn.Module) -> None:
    """The norms of experts are averaged as if they were replicas."""
    dense, expert = parts(model)
    experts = square(expert).sqrt()
    dist.all_reduce(experts)
    clip(model, (square(dense) + (experts / dist.get_world_size()) ** 2).sqrt())


def undercounted(model: nn.Module) -> None:
    """Only the experts of one process are in the sum, which all of them use."""
    dense, expert = parts(model)
    experts = square(expert)
    dist.broadcast(experts, 0)
    clip(model, (square(dense) + experts).sqrt())


def each_its_own(model: nn.Module) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), LIMIT)


def by_hand_each_its_own(model: nn.Module) -> None:
    everything = list(model.parameters())
    norm = square(everything)
    dist.all_reduce(norm, group=GROUPS[dist.get_rank()])
    for p in everything:
        p.grad *= min(1.0, LIMIT / (norm.sqrt().item() + 1e-6))


def before_reduction(model: nn.Module) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), LIMIT)
    reduced()(model)


def some_of_them(model: nn.Module) -> None:
    nn.utils.clip_grad_norm_([p for p in model.parameters() if p is not model.dense.weight], LIMIT)


GROUPS: list[dist.ProcessGroup] = []
Step = Callable[[nn.Module], None]
EXPERTS: dict[str, Step] = {
    "right": right,
    "in_two_calls": in_two_calls,
    "averaged": averaged,
    "undercounted": undercounted,
    "each_its_own": each_its_own,
    "by_hand_each_its_own": by_hand_each_its_own,
}
REPLICAS: dict[str, Step] = {
    "replicas": each_its_own,
    "before_reduction": before_reduction,
    "some_of_them": some_of_them,
}


def train(name: str, out: Path) -> None:
    rank = dist.get_rank()
    if name in EXPERTS:
        model, reduce, act = Net(100 + rank), reduced("expert"), EXPERTS[name]
    else:
        model, act = Net(0), REPLICAS[name]
        reduce = (lambda model: None) if name == "before_reduction" else reduced()
    optimizer = torch.optim.SGD(model.parameters(), 0.02)
    generator = torch.Generator().manual_seed(rank)
    with seismograd.watch(model, optimizer, out=out):
        for _ in range(STEPS):
            x = torch.randn(16, 8, generator=generator)
            optimizer.zero_grad()
            ((model(x) - 4 * (1 + rank) * x[:, :3]) ** 2).mean().backward()
            reduce(model)
            act(model)
            optimizer.step()


class Exchange(torch.autograd.Function):
    """Passes activations from stage 0 to stage 1, and their gradients back."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        x = x.detach().clone()
        dist.broadcast(x, 0)
        return x

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        dist.broadcast(gradient, 1)
        return gradient


def pipeline(out: Path, whole: bool) -> None:
    """A pipeline of two stages, one for each process; the clip uses the norm of both, or of one."""
    rank = dist.get_rank()
    torch.manual_seed(0)
    stages = nn.ModuleDict({"first": nn.Linear(8, 8), "last": nn.Linear(8, 3)})
    model = nn.ModuleDict({("first", "last")[rank]: stages[("first", "last")[rank]]})
    optimizer = torch.optim.SGD(model.parameters(), 0.02)
    generator = torch.Generator().manual_seed(0)
    with seismograd.watch(model, optimizer, out=out):
        for _ in range(STEPS):
            x = torch.randn(16, 8, generator=generator)
            optimizer.zero_grad()
            if rank == 0:
                Exchange.apply(torch.tanh(model["first"](x))).backward(torch.zeros(16, 8))
            else:
                hidden = Exchange.apply(torch.zeros(16, 8, requires_grad=True))
                ((model["last"](hidden) - 4 * x[:, :3]) ** 2).mean().backward()
            norm = square(list(model.parameters()))
            if whole:
                dist.all_reduce(norm)
            nn.utils.clip_grads_with_norm_(list(model.parameters()), LIMIT, norm.sqrt().reshape(()))
            optimizer.step()


def main(out: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    GROUPS.extend(dist.new_group([rank]) for rank in range(dist.get_world_size()))
    for name in names:
        if name in ("stages", "one_stage"):
            pipeline(out / name, name == "stages")
        else:
            train(name, out / name)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
