"""SG109 on values that are divided by their own sum over one element, as the weight of a top-1
gate.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from seismograd.analysis.share_of_one_words import words_of_share_of_one  # noqa: E402
from seismograd.capture.graph.loss_graph import LossGraph  # noqa: E402
from seismograd.capture.graph.shares_of_one import cut_off  # noqa: E402
from seismograd.capture.source.own_shares import own_share  # noqa: E402
from seismograd.record.reader import open_run  # noqa: E402
from seismograd.schema import Fact, FactKind  # noqa: E402
from tests.rules.programs import WIDTH, Listen, Program, adam, batch  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402

LossOf = Callable[["Voices", Tensor, Tensor], Tensor]


class Voices(nn.Module):
    """Several heads, of which a listener chooses some for each sample."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(WIDTH, 10)
        self.listener = nn.Linear(10, 3)
        self.heads = nn.ModuleList(nn.Linear(10, 4) for _ in range(3))

    def said(self, h: Tensor) -> Tensor:
        return torch.stack([head(h) for head in self.heads], 1)

    def chosen(self, x: Tensor, k: int, normalize: Callable[[Tensor], Tensor]) -> Tensor:
        h = torch.tanh(self.body(x))
        weight, index = self.listener(h).softmax(-1).topk(k, dim=-1)
        said = self.said(h).gather(1, index[..., None].expand(-1, -1, 4))
        return (normalize(weight)[..., None] * said).sum(1)


def by_sum(weight: Tensor) -> Tensor:
    return weight / weight.sum(-1, keepdim=True)


def by_guarded_sum(weight: Tensor) -> Tensor:
    return weight / (weight.sum(dim=-1) + 1e-9).unsqueeze(-1)


def by_largest(weight: Tensor) -> Tensor:
    return weight / weight.amax(-1, keepdim=True).clamp(min=1e-6)


def by_norm(weight: Tensor) -> Tensor:
    return F.normalize(weight, dim=-1)


def gated(k: int, normalize: Callable[[Tensor], Tensor]) -> LossOf:
    def loss(net: Voices, x: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(net.chosen(x, k, normalize), labels)

    return loss


def balanced(net: Voices, x: Tensor, labels: Tensor) -> Tensor:
    """Another term spreads the choices, and trains the listener."""
    usage = net.listener(torch.tanh(net.body(x))).softmax(-1).mean(0)
    return gated(1, by_sum)(net, x, labels) + 0.1 * (usage * usage).sum()


def weight_of_one_source(net: Voices, x: Tensor, labels: Tensor) -> Tensor:
    """Attention by hand over a single source."""
    h = torch.tanh(net.body(x))
    score = net.listener(h)[:, :1].sigmoid()
    pooled = (score / score.sum(1, keepdim=True))[..., None] * h[:, None]
    return F.cross_entropy(net.heads[0](pooled.sum(1)), labels)


FAULTY = {
    "sum": gated(1, by_sum),
    "guarded sum": gated(1, by_guarded_sum),
    "maximum": gated(1, by_largest),
    "norm": gated(1, by_norm),
    "beside a balance": balanced,
    "a single source": weight_of_one_source,
}


def also_as_it_is(net: Voices, x: Tensor, labels: Tensor) -> Tensor:
    """The probability is used once more."""
    h = torch.tanh(net.body(x))
    return F.cross_entropy(net.chosen(x, 1, by_sum) + net.listener(h).sum(1, keepdim=True), labels)


def length_apart(net: Voices, x: Tensor, labels: Tensor) -> Tensor:
    """A weight normalization of a layer with one input: its length is another parameter."""
    v, g = nn.Parameter(torch.randn(4, 1)), nn.Parameter(torch.ones(4, 1))
    weight = g * v / v.norm(dim=1, keepdim=True)
    return F.cross_entropy(net.said(torch.tanh(net.body(x)))[:, 0] @ weight + x[:, :4], labels)


HEALTHY = {
    "two": gated(2, by_sum),
    "as it is": gated(1, lambda weight: weight),
    "divided by a constant": gated(1, lambda w: w / w.detach().sum(-1, keepdim=True)),
    "the largest of two": gated(2, by_largest),
    "used twice": also_as_it_is,
    "weight normalization": length_apart,
}


def cut(loss: LossOf) -> tuple[list[str], bool] | None:
    net = Voices()
    found = cut_off(LossGraph([loss(net, *batch(0)).grad_fn]))
    if found is None:
        return None
    names = [name for name, p in net.named_parameters() if any(p is leaf for leaf in found.leaves)]
    return names, found.has_others


@pytest.mark.parametrize("kind", FAULTY)
def test_what_a_share_of_one_cuts_off_is_found(kind: str) -> None:
    names = ["listener.weight", "listener.bias"]
    assert cut(FAULTY[kind]) == (names, kind == "beside a balance")


@pytest.mark.parametrize("kind", HEALTHY)
def test_other_shares_are_left_alone(kind: str) -> None:
    assert cut(HEALTHY[kind]) is None


def trained(loss: LossOf, sizes: Callable[[int], int] = lambda step: 32) -> Program:
    def program(listen: Listen) -> None:
        net = Voices()
        optimizer = adam(net)
        with listen(net, optimizer):
            for step in range(14):
                x, labels = batch(step, sizes(step))
                optimizer.zero_grad()
                loss(net, x, labels).backward()
                optimizer.step()

    return program


@pytest.mark.parametrize("kind", ["sum", "norm", "beside a balance"])
def test_it_is_told_with_the_parameters(kind: str, tmp_path: Path) -> None:
    (finding,) = judged(trained(FAULTY[kind]), tmp_path / "run")
    assert (finding.code, finding.severity, finding.first_step) == ("SG109", "error", 0)
    assert finding.parameters == ("listener.weight", "listener.bias")
    size = "norm" if kind == "norm" else "sum"
    assert f"divided by its own {size} over a dimension of one element" in finding.cause.render()
    assert finding.excerpt == "assert weights.shape[-1] > 1"  # several lines divide so


@pytest.mark.parametrize("kind", ["two", "as it is", "used twice"])
def test_a_training_with_other_shares_is_healthy(kind: str, tmp_path: Path) -> None:
    assert judged(trained(HEALTHY[kind]), tmp_path / "run") == ()


def over_the_batch(net: Voices, x: Tensor, labels: Tensor) -> Tensor:
    """How much each sample counts, relative to the others: of one sample nothing is left."""
    h = torch.tanh(net.body(x))
    score = net.listener(h).sigmoid()
    each = F.cross_entropy(net.heads[0](h), labels, reduction="none")
    return ((score / score.sum(0, keepdim=True)) * each[:, None]).sum()


def test_some_batches_of_one_sample_are_no_fault(tmp_path: Path) -> None:
    assert cut(over_the_batch) is None
    program = trained(over_the_batch, lambda step: 1 if step < 2 else 32)
    assert "SG109" not in {each.code for each in judged(program, tmp_path / "run")}
    told = [each for each in open_run(tmp_path / "run").facts if each.text("operation") == "sum"]
    assert [fact.number("times") for fact in told] == [1, 2]


SCRIPT = """
class Gate:
    def __call__(self, scores, k):
        best, index = scores.softmax(1).topk(k)
        {statement}
        return best, index


def shares(scores):
    return scores / scores.sum()
"""


@pytest.mark.parametrize(
    ("statement", "excerpt"),
    [
        ("best = best / best.sum(1, keepdim=True)", "best = best / best.sum(1, keepdim=True)"),
        ("best /= torch.sum(best, 1, True) + 1e-6", "best /= torch.sum(best, 1, True) + 1e-6"),
    ],
)
def test_the_line_that_divides_is_shown_with_a_condition(
    statement: str, excerpt: str, tmp_path: Path
) -> None:
    script = tmp_path / "gate.py"
    script.write_text(SCRIPT.replace("{statement}", statement), encoding="utf-8")
    found = own_share(str(script), 6)
    assert found is not None
    assert found.line == 5
    values = {"text": found.text, "operation": "sum", "num": 1.0}
    fact = Fact(FactKind.ZERO_GRADIENT, 3, parameters=("router.weight",), values=values)
    assert words_of_share_of_one(fact)[2] == f"if best.shape[-1] > 1:\n    {excerpt}"
    assert own_share(str(script), 10) is not None
    assert own_share(str(script), 1) is None
