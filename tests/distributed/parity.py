"""One training by one process, and by several in right and in wrong ways: parity.py OUT CASE...

Each case leaves its record in OUT/CASE.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

import seismograd

STEPS, ROWS = 4, 8


@dataclass(frozen=True)
class Case:
    """`divides`: by the number of processes; `left_out`: the beginning of names that are not
    reduced; `parts`: micro-batches, `parts_count`: each loss is divided by so many.
    """

    divides: bool = True
    left_out: str = "nothing"
    reduction: str = "mean"
    parts: int = 1
    parts_count: int = 1


CASES = {
    "right": Case(),
    "right_in_parts": Case(parts=4, parts_count=4),
    "not_divided": Case(divides=False),
    "summed_loss": Case(reduction="sum"),
    "layer_left_out": Case(left_out="2."),
    "nothing_reduced": Case(left_out=""),
    "parts_not_divided": Case(parts=4),
    "both_not_divided": Case(divides=False, parts=4),
}


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 5)
    )


def batch(step: int, rank: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(100 * step + rank)
    x = torch.randn(ROWS, 12, generator=generator)
    return x, torch.randint(0, 5, (ROWS,), generator=generator)


def train(
    out: Path,
    case: Case,
    data: Callable[[int], tuple[Tensor, Tensor]],
    reduce: Callable[[nn.Module], None],
) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    with seismograd.watch(model, optimizer, out=out, quiet=True):
        for step in range(STEPS):
            x, y = data(step)
            optimizer.zero_grad()
            for rows, labels in zip(x.chunk(case.parts), y.chunk(case.parts), strict=True):
                loss = nn.functional.cross_entropy(model(rows), labels, reduction=case.reduction)
                (loss / case.parts_count).backward()
            reduce(model)
            optimizer.step()


def alone(out: Path, num_ranks: int) -> None:
    """One process with all the data."""

    def data(step: int) -> tuple[Tensor, Tensor]:
        x, y = zip(*(batch(step, rank) for rank in range(num_ranks)), strict=True)
        return torch.cat(x), torch.cat(y)

    train(out, Case(), data, lambda model: None)


def main(out: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for name in names:
        case = CASES[name]

        def reduce(model: nn.Module, case: Case = case) -> None:
            for parameter, p in model.named_parameters():
                if not parameter.startswith(case.left_out):
                    dist.all_reduce(p.grad)
                    p.grad /= dist.get_world_size() if case.divides else 1

        train(out / name, case, lambda step: batch(step, dist.get_rank()), reduce)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
