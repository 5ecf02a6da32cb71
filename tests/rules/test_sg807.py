"""SG807 on graphs of losses of unrolled recurrences, and on a program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from seismograd.capture.graph.detached_states import detached_states  # noqa: E402
from seismograd.capture.graph.loss_graph import LossGraph  # noqa: E402
from tests.rules.programs import Listen, adam  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402

SAMPLES, STEPS, FEATURES, WIDTH = 6, 8, 4, 5
Pass = Callable[[Tensor], Tensor]


class Plain(nn.Module):
    """A recurrence written out."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.keep = nn.Linear(FEATURES, WIDTH), nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return (self.enter(x) + self.keep(h)).tanh()


def kept(h: Tensor) -> Tensor:
    return h


def copied(h: Tensor) -> Tensor:
    return torch.tensor(h.tolist())


def states(cell: nn.Module, x: Tensor, carry: Pass) -> list[Tensor]:
    h, found = torch.zeros(SAMPLES, WIDTH), list[Tensor]()
    for t in range(STEPS):
        h = cell(x[:, t], carry(h))
        found.append(h)
    return found


def at_each_step(head: nn.Module, found: list[Tensor]) -> Tensor:
    return sum((head(h).square().mean() for h in found), torch.zeros(()))


def stacked(head: nn.Module, found: list[Tensor]) -> Tensor:
    return head(torch.stack(found, 1)).square().mean()


def joined(head: nn.Module, found: list[Tensor]) -> Tensor:
    return head(torch.cat(found)).square().mean()


CELLS = {"GRU": nn.GRUCell, "RNN": nn.RNNCell}
LOSSES = {"at each step": at_each_step, "stacked": stacked, "joined": joined}


def weights(loss: Tensor) -> list[int]:
    return [steps for _, steps in detached_states(LossGraph([loss.grad_fn]))]


def inputs() -> Tensor:
    return torch.randn(SAMPLES, STEPS, FEATURES, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("carry", [Tensor.detach, copied])
@pytest.mark.parametrize("cell", [*CELLS, "plain"])
def test_a_state_without_its_graph_is_found(
    cell: str, carry: Pass, loss: Callable[[nn.Module, list[Tensor]], Tensor]
) -> None:
    made = Plain() if cell == "plain" else CELLS[cell](FEATURES, WIDTH)
    head = nn.Linear(WIDTH, 1)
    assert weights(loss(head, states(made, inputs(), carry))) == [STEPS]
    assert weights(loss(head, states(made, inputs(), kept))) == []


def test_a_state_detached_once_for_a_chunk() -> None:
    cell, head, h = nn.GRUCell(FEATURES, WIDTH), nn.Linear(WIDTH, 1), torch.zeros(SAMPLES, WIDTH)
    found = list[Tensor]()
    for t in range(STEPS):
        h = cell(inputs()[:, t], h.detach() if t % 2 == 0 else h)
        found.append(h)
    assert weights(at_each_step(head, found)) == []


def test_one_way_through_time_is_enough() -> None:
    cell, head = nn.LSTMCell(FEATURES, WIDTH), nn.Linear(WIDTH, 1)
    h = c = torch.zeros(SAMPLES, WIDTH)
    found = list[Tensor]()
    for t in range(STEPS):
        h, c = cell(inputs()[:, t], (h.detach(), c))
        found.append(h)
    assert weights(stacked(head, found)) == []
    h = c = torch.zeros(SAMPLES, WIDTH)
    found = []
    for t in range(STEPS):
        h, c = cell(inputs()[:, t], (h.detach(), c.detach()))
        found.append(h)
    assert weights(stacked(head, found)) == [STEPS]


def test_a_layer_that_is_applied_again_and_again() -> None:
    """To data, to its own output as an input beside a live state, and to a state of zeros."""
    layer, head = nn.Linear(FEATURES, WIDTH), nn.Linear(WIDTH, FEATURES)
    each = [head(layer(inputs()[:, t]).tanh()) for t in range(STEPS)]
    assert weights(sum((y.square().mean() for y in each), torch.zeros(()))) == []
    cell, h, y = nn.GRUCell(FEATURES, WIDTH), torch.zeros(SAMPLES, WIDTH), inputs()[:, 0]
    predicted = list[Tensor]()
    for _ in range(STEPS):  # what was predicted is the next input, without a graph
        h = cell(y.detach(), h)
        y = head(h)
        predicted.append(y)
    assert weights(sum((y.square().mean() for y in predicted), torch.zeros(()))) == []
    none = torch.zeros(SAMPLES, WIDTH)
    assert weights(stacked(nn.Linear(WIDTH, 1), [cell(x, none) for x in inputs().unbind(1)])) == []


def test_a_program_is_shown_the_line(tmp_path: Path) -> None:
    def program(listen: Listen) -> None:
        torch.manual_seed(0)
        model = nn.ModuleDict({"cell": nn.GRUCell(FEATURES, WIDTH), "head": nn.Linear(WIDTH, 1)})
        optimizer = adam(model)
        with listen(model, optimizer):
            for _ in range(6):
                x, h = torch.randn(SAMPLES, STEPS, FEATURES), torch.zeros(SAMPLES, WIDTH)
                loss = torch.zeros(())
                for t in range(STEPS):
                    h = model["cell"](x[:, t], h)
                    loss = loss + F.mse_loss(model["head"](h)[:, 0], x[:, t // 2, 0])
                    h = h.detach()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    (finding,) = judged(program, tmp_path / "run")
    assert (finding.code, finding.severity, finding.first_step) == ("SG807", "warning", 0)
    assert finding.parameters == ("cell.weight_hh",)
    assert f"each of {STEPS} steps" in finding.cause.render()
    assert finding.excerpt == "# h = h.detach()"
