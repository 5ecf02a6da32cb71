"""What one process with all the data has, for each training of the matrix."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from tests.distributed.matrix_cells import Cell, Numbers

WIDTH, ROWS, LIMIT = 8, 4, 0.4
RATE = {"lr": 0.1, "momentum": 0.9}
FLAT = ("fsdp1", "fsdp2", "hsdp", "fsdp2_tp", "fsdp2_ep")  # they cast parameters, not operations
EXPERT = "second"


class Net(nn.Module):
    """Four layers, for as many stages; two do not divide `hidden` unless it is to be cut evenly."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.first = nn.Linear(WIDTH, hidden)
        self.second = nn.Linear(hidden, WIDTH)
        self.last = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.second(torch.relu(self.first(self.norm(x))))))


def net(cell: Cell, expert: int = 0) -> Net:
    """The model of a cell, with this one of its experts."""
    torch.manual_seed(1)
    made = Net(12 if cell.kind in ("tp", "fsdp2_tp") else 13)
    if cell.num_experts:
        torch.manual_seed(100 + expert)
        made.second = nn.Linear(13, WIDTH)
    return made.bfloat16() if cell.numbers is Numbers.BFLOAT16 else made


def batch(step: int, data_rank: int, part: int) -> Tensor:
    generator = torch.Generator().manual_seed(10_000 * part + 100 * step + data_rank)
    return torch.randn(ROWS, WIDTH, generator=generator)


def loss_of(output: Tensor, x: Tensor) -> Tensor:
    return (output.float() - 2 * x[:, :3]).square().mean()


def low(cell: Cell) -> torch.dtype | None:
    """What a training with float32 parameters computes in."""
    return {Numbers.MIXED: torch.bfloat16, Numbers.SCALED: torch.float16}.get(cell.numbers)


def computing(cell: Cell) -> AbstractContextManager[object]:
    """What the forward of a cell is run in."""
    dtype = low(cell)
    if dtype is None or cell.kind in FLAT:
        return nullcontext()
    return torch.autocast("cpu", dtype)


def forward(model: nn.Module, x: Tensor, cell: Cell) -> Tensor:
    """The loss of these rows."""
    with computing(cell):
        return loss_of(model(x.bfloat16() if cell.numbers is Numbers.BFLOAT16 else x), x)


class OneProcess:
    """Trains in float32 on its own, with all rows at once; in other numbers it rounds otherwise, so
    that it takes the weights of each step from the processes, and their batches one by one.
    """

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.nets = [net(cell, expert) for expert in range(max(1, cell.num_experts))]
        for other in self.nets[1:]:
            other.norm, other.first, other.last = (
                self.nets[0].norm,
                self.nets[0].first,
                self.nets[0].last,
            )
        self.parameters = list(dict.fromkeys(p for each in self.nets for p in each.parameters()))
        self.optimizer = torch.optim.SGD(self.parameters, **RATE)

    def net_of(self, data_rank: int) -> Net:
        return self.nets[data_rank % len(self.nets)]

    def step_alone(self, step: int) -> dict[str, float]:
        """Train a step with all rows; the norm of each gradient, and of all."""
        cell, losses = self.cell, []
        self.optimizer.zero_grad()
        for number, model in enumerate(self.nets):
            rows = torch.cat(
                [
                    batch(step, data_rank, part)
                    for data_rank in range(number, cell.num_data, len(self.nets))
                    for part in range(cell.parts)
                ]
            )
            losses.append(loss_of(model(rows), rows))
        torch.stack(losses).mean().backward()
        found = norms([{n: p.grad for n, p in each.named_parameters()} for each in self.nets])
        if cell.clip:
            nn.utils.clip_grad_norm_(self.parameters, LIMIT)
        self.optimizer.step()
        return found

    def at(self, weights: Sequence[dict[str, Tensor]], step: int, scale: float) -> dict[str, float]:
        """The norms of the gradients at these weights, one set for each net."""
        cell = self.cell
        for model, values in zip(self.nets, weights, strict=True):
            model.load_state_dict(values)
        sums: list[dict[str, Tensor]] = [{} for _ in self.nets]
        for data_rank in range(cell.num_data):
            model = self.net_of(data_rank)
            into = sums[data_rank % len(self.nets)]
            for gradients in self._gradients(model, step, data_rank, scale):
                for name, gradient in gradients.items():
                    part = gradient.double() / (scale * cell.num_data)
                    into[name] = into.get(name, 0) + part
        for name in sums[0]:
            if not name.startswith(EXPERT):
                whole = sum(each[name] for each in sums)
                for each in sums:
                    each[name] = whole
        if cell.numbers is Numbers.BFLOAT16:
            sums = [{n: g.bfloat16() for n, g in each.items()} for each in sums]
        return norms(sums)

    def _gradients(
        self, model: Net, step: int, data_rank: int, scale: float
    ) -> list[dict[str, Tensor]]:
        """Those of a process's batches: added up as its parameters add them up, or one by one where
        sums are made in float32 behind a cast.
        """
        cell, dtype = self.cell, low(self.cell)
        casts = dtype is not None and cell.kind in FLAT
        found: list[dict[str, Tensor]] = []
        used: nn.Module = model
        for part in range(cell.parts):
            if casts or not part:
                used = model
                if casts:
                    used = net(cell).to(dtype)
                    used.load_state_dict(model.state_dict())
                for p in used.parameters():
                    p.grad = None
            x = batch(step, data_rank, part)
            given = x.to(dtype) if casts else x
            with computing(cell):
                output = used(given.bfloat16() if cell.numbers is Numbers.BFLOAT16 else given)
                loss = loss_of(output, x)
            (loss / cell.parts * scale).backward()
            if casts or part == cell.parts - 1:
                found.append({n: p.grad.clone() for n, p in used.named_parameters()})
        return found


def norms(gradients: Sequence[dict[str, Tensor]]) -> dict[str, float]:
    """The norm of each gradient, of experts that of all together."""
    return {
        name: sum(
            float(each[name].double().square().sum())
            for each in (gradients if name.startswith(EXPERT) else gradients[:1])
        )
        ** 0.5
        for name in gradients[0]
    }
