"""SG809 on graphs of sums by an index, and on programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from seismograd.analysis.accumulated_index import with_accumulation  # noqa: E402
from seismograd.capture.graph.loss_graph import LossGraph  # noqa: E402
from seismograd.capture.graph.repeated_places import lost_additions  # noqa: E402
from seismograd.tensors.saved_tensors import SHOWS_DATA  # noqa: E402
from tests.rules.programs import Listen, Program  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402

NODES, WIDTH = 6, 5
SOURCES = torch.tensor([0, 1, 2, 3, 4, 5, 0, 1])
ENDS = torch.tensor([1, 1, 1, 2, 2, 3, 4, 0])
OTHERS = torch.tensor([3, 1, 0, 2, 5, 4])
Sum = Callable[[Tensor], Tensor]  # of what goes along the edges  # (edges, WIDTH)


def over_edges(x: Tensor) -> Tensor:
    total = torch.zeros(NODES, WIDTH)
    total[ENDS] += x
    return total


def in_other_words(x: Tensor) -> Tensor:
    total = torch.zeros(NODES, WIDTH)
    total[ENDS] = total[ENDS] - x
    return total


def of_columns(x: Tensor) -> Tensor:
    total = torch.zeros(WIDTH, NODES)
    total[:, ENDS] += x.T
    return total.T


def of_pairs(x: Tensor) -> Tensor:
    total = torch.zeros(NODES, NODES, WIDTH)
    total[ENDS, ENDS % 2] += x
    return total.sum(1)


FAULTY = {each.__name__: each for each in (over_edges, in_other_words, of_columns, of_pairs)}


def accumulated(x: Tensor) -> Tensor:
    return torch.zeros(NODES, WIDTH).index_add_(0, ENDS, x)


def put(x: Tensor) -> Tensor:
    return torch.zeros(NODES, WIDTH).index_put_((ENDS,), x + 1, accumulate=True)


def each_once(x: Tensor) -> Tensor:
    total = torch.zeros(NODES, WIDTH)
    total[OTHERS] += x[:NODES]
    return total


def by_mask(x: Tensor) -> Tensor:
    total = torch.zeros(len(x), WIDTH)
    total[ENDS > 1] += x[ENDS > 1]
    return total[:NODES]


def set_not_added(x: Tensor) -> Tensor:
    total = torch.zeros(NODES, WIDTH)
    total[ENDS] = x
    return total


def padding_in_one_place(x: Tensor) -> Tensor:
    total = torch.zeros(NODES + 1, WIDTH)
    total[torch.where(ENDS > 2, ENDS, NODES)] += x
    return total[:NODES]


HEALTHY = {
    each.__name__: each
    for each in (accumulated, put, each_once, by_mask, set_not_added, padding_in_one_place)
}


def lost(summed: Sum) -> list[tuple[int, int]]:
    x = torch.ones(len(ENDS), WIDTH, requires_grad=True) * 2
    graph = LossGraph([summed(x).sum().grad_fn])
    return [(each.num, each.lost) for each in lost_additions(graph)]


@pytest.mark.parametrize("name", FAULTY)
def test_additions_to_the_same_place_are_lost(name: str) -> None:
    kept = {(int(end), int(end) % 2) for end in ENDS}
    if name == "of_columns" and not SHOWS_DATA:
        pytest.skip("this torch hides what is written to a slice")
    assert lost(FAULTY[name]) == [(len(ENDS), len(ENDS) - len(kept))]


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_lost(name: str) -> None:
    assert lost(HEALTHY[name]) == []


def test_a_sum_with_what_stood_there_is_sure() -> None:
    x = torch.ones(len(ENDS), WIDTH, requires_grad=True) * 2
    total = accumulated(x)
    total[ENDS] += x
    unsure = over_edges(x)
    is_sure = [each.is_sure for each in lost_additions(LossGraph([total.sum().grad_fn]))]
    assert is_sure == [True]
    assert [e.is_sure for e in lost_additions(LossGraph([unsure.sum().grad_fn]))] == [False]


class Graph(nn.Module):
    """Two layers, between which the nodes sum what comes to them."""

    def __init__(self, summed: Sum) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.summed = nn.Linear(4, WIDTH), nn.Linear(WIDTH, 2), summed

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.summed(self.first(x)[SOURCES]).relu())


def trained(summed: Sum) -> Program:
    def program(listen: Listen) -> None:
        net = Graph(summed)
        optimizer = torch.optim.Adam(net.parameters(), 0.01)
        x, target = torch.randn(NODES, 4), torch.randn(NODES, 2)
        with listen(net, optimizer):
            for _ in range(8):
                optimizer.zero_grad()
                nn.functional.mse_loss(net(x), target).backward()
                optimizer.step()

    return program


def sum_twice(x: Tensor) -> Tensor:
    total = accumulated(x)
    total[ENDS] += x
    return total


def test_a_sum_by_an_index_is_told(tmp_path: Path) -> None:
    (finding,) = (f for f in judged(trained(sum_twice), tmp_path / "run") if f.code == "SG809")
    assert (finding.severity, finding.first_step) == ("error", 0)
    assert finding.parameters == ("first.weight", "first.bias")
    assert "of 8 additions 3 are lost" in finding.cause.render()


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_sums_are_not_told(name: str, tmp_path: Path) -> None:
    found = judged(trained(HEALTHY[name]), tmp_path / "run")
    assert "SG809" not in {each.code for each in found}


SCRIPT = """
import torch
from torch import nn

torch.manual_seed(0)
ends = torch.tensor([1, 1, 1, 2, 2, 3])
net = nn.Linear(4, 3)
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
x = torch.randn(6, 4)
for _ in range(6):
    values = net(x)
    total = torch.zeros(4, 3)
    {statement}
    optimizer.zero_grad()
    total.square().mean().backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("statement", "mended"),
    [
        ("total[ends] += values", "total.index_add_(0, ends, values)"),
        ("total[ends] = total[ends] - values", "total.index_add_(0, ends, values, alpha=-1)"),
        ("total[ends] = values + 1.0", None),
    ],
)
def test_the_statement_and_its_mend_are_shown(
    statement: str, mended: str | None, tmp_path: Path
) -> None:
    import seismograd

    file, source = tmp_path / "summed.py", SCRIPT.format(statement=statement)
    file.write_text(source)
    with seismograd.watch(out=tmp_path / "run") as recording:
        exec(compile(source, str(file), "exec"), {"__name__": "summed"})
    findings = [each for each in recording.findings if each.code == "SG809"]
    if mended is None:
        assert not findings
        return
    (finding,) = findings
    assert finding.excerpt == mended
    assert finding.where.endswith("summed.py:13")
    assert statement in finding.cause.render()


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("out[a, b] += x", "out.index_put_((a, b), x, accumulate=True)"),
        ("out[a, b] -= x + y", "out.index_put_((a, b), -(x + y), accumulate=True)"),
        ("out[:, i] += x", ""),
        ("out[i] *= x", ""),
        ("self.agg[i] -= x", "self.agg.index_add_(0, i, x, alpha=-1)"),
        ("x = y", ""),
        ("", ""),
    ],
)
def test_the_statement_is_rewritten(text: str, mended: str) -> None:
    assert with_accumulation(text) == mended
