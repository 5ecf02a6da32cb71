"""SG808 on graphs of weighted losses, and on programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from seismograd.analysis.held_weights import with_held_weight  # noqa: E402
from seismograd.capture.graph.loss_graph import LossGraph  # noqa: E402
from seismograd.capture.graph.loss_weights import loss_weights  # noqa: E402
from tests.rules.programs import WIDTH, Listen, Program, batch  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402

Weighing = Callable[["Twofold", list[Tensor]], Tensor]


class Twofold(nn.Module):
    """A class and a length, of one body."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(WIDTH, 12), nn.Tanh())
        self.kind, self.length = nn.Linear(12, 4), nn.Linear(12, 1)
        self.s = nn.Parameter(torch.zeros(2))
        self.sigma = nn.Parameter(torch.ones(2))

    def losses(self, x: Tensor, labels: Tensor) -> list[Tensor]:
        h = self.body(x)
        length = x.norm(dim=1, keepdim=True)
        return [F.cross_entropy(self.kind(h), labels), F.mse_loss(self.length(h), length)]


def each_alone(net: Twofold, losses: list[Tensor]) -> Tensor:
    total = torch.zeros(())
    for number, loss in enumerate(losses):
        total = total + torch.exp(-net.s[number]) * loss
    return total


def all_at_once(net: Twofold, losses: list[Tensor]) -> Tensor:
    return (0.5 * torch.exp(-net.s) * torch.stack(losses)).sum()


def by_variance(net: Twofold, losses: list[Tensor]) -> Tensor:
    return losses[0] / (2 * net.sigma[0] ** 2) + losses[1] / (2 * net.sigma[1] ** 2)


def by_inverse_variance(net: Twofold, losses: list[Tensor]) -> Tensor:
    return sum(1 / (s**2) * loss for s, loss in zip(net.sigma, losses, strict=True))  # type: ignore[return-value]


def one_weighed(net: Twofold, losses: list[Tensor]) -> Tensor:
    return losses[0] + F.softplus(net.s)[0] * losses[1]


FAULTY: dict[str, tuple[Weighing, str]] = {
    "each alone": (each_alone, "s"),
    "all at once": (all_at_once, "s"),
    "by variance": (by_variance, "sigma"),
    "by inverse variance": (by_inverse_variance, "sigma"),
    "one of two": (one_weighed, "s"),
}


def held(net: Twofold, losses: list[Tensor]) -> Tensor:
    return each_alone(net, losses) + net.s.sum()


def held_by_logarithm(net: Twofold, losses: list[Tensor]) -> Tensor:
    return by_variance(net, losses) + torch.log(1 + net.sigma**2).sum()


def held_within(net: Twofold, losses: list[Tensor]) -> Tensor:
    return (torch.exp(-net.s) * (torch.stack(losses) + net.s)).sum()


def sum_to_one(net: Twofold, losses: list[Tensor]) -> Tensor:
    return (net.s.softmax(0) * torch.stack(losses)).sum()


def plain(net: Twofold, losses: list[Tensor]) -> Tensor:
    """As in GradNorm, which sets the gradient of the weights by itself."""
    return (net.sigma * torch.stack(losses)).sum()


def temperature(net: Twofold, losses: list[Tensor]) -> Tensor:
    logits = torch.exp(net.s[0]) * net.kind(net.body(batch(0)[0]))
    return F.cross_entropy(logits, batch(0)[1]) + losses[1]


def entropy_weight(net: Twofold, losses: list[Tensor]) -> Tensor:
    """A weight of each sample's number, as alpha of SAC where it is not detached."""
    log_prob = net.kind(net.body(batch(0)[0])).log_softmax(1)[:, 0]
    return (net.s[0].exp() * log_prob).mean() + losses[1]


def of_a_constant(net: Twofold, losses: list[Tensor]) -> Tensor:
    """The loss of the weight itself."""
    return losses[0] - (net.s.exp() * (losses[1].detach() - 0.1)).sum()


HEALTHY: dict[str, Weighing] = {
    "held": held,
    "held by a logarithm": held_by_logarithm,
    "held within": held_within,
    "sum to one": sum_to_one,
    "plain": plain,
    "temperature": temperature,
    "entropy weight": entropy_weight,
    "of a constant": of_a_constant,
}


def weights(weigh: Weighing) -> list[str]:
    net = Twofold()
    found = loss_weights(LossGraph([weigh(net, net.losses(*batch(0))).grad_fn]))
    return [name for name, p in net.named_parameters() if any(p is each.leaf for each in found)]


@pytest.mark.parametrize("kind", FAULTY)
def test_a_weight_that_nothing_holds_is_found(kind: str) -> None:
    weigh, name = FAULTY[kind]
    assert weights(weigh) == [name]


@pytest.mark.parametrize("kind", HEALTHY)
def test_other_weights_are_left_alone(kind: str) -> None:
    assert weights(HEALTHY[kind]) == []


def test_the_weight_is_the_number_by_which_the_term_is_multiplied() -> None:
    net = Twofold()
    net.s.data = torch.tensor([1.0, 2.0])
    (found,) = loss_weights(LossGraph([all_at_once(net, net.losses(*batch(0))).grad_fn]))
    assert found.value == pytest.approx(0.5 * torch.exp(torch.tensor(-1.0)).item())
    net.sigma.data = torch.tensor([2.0, 5.0])
    (found,) = loss_weights(LossGraph([by_variance(net, net.losses(*batch(0))).grad_fn]))
    assert found.value == pytest.approx(1 / 8)


def trained(
    weigh: Weighing,
    steps: int = 40,
    lr: float = 0.1,
    aside: Callable[[Twofold], Tensor] | None = None,
    up: bool = False,
) -> Program:
    """`aside`: a loss with a backward of its own; `up`: the weights are changed to raise the
    loss.
    """

    def program(listen: Listen) -> None:
        net = Twofold()
        weighing = [net.s, net.sigma]
        others = [p for name, p in net.named_parameters() if name not in ("s", "sigma")]
        groups = [{"params": others, "lr": 1e-3}, {"params": weighing, "maximize": up}]
        optimizer = torch.optim.Adam(groups, lr)
        with listen(net, optimizer):
            for step in range(steps):
                optimizer.zero_grad()
                if aside is not None:
                    aside(net).backward()
                weigh(net, net.losses(*batch(step))).backward()
                optimizer.step()

    return program


@pytest.mark.parametrize("kind", ["each alone", "all at once", "by variance"])
def test_a_weight_that_falls_is_told(kind: str, tmp_path: Path) -> None:
    weigh, name = FAULTY[kind]
    findings = [f for f in judged(trained(weigh), tmp_path / "run") if f.code == "SG808"]
    (finding,) = findings
    assert (finding.severity, finding.first_step) == ("error", 0)
    assert finding.parameters == (name,)
    assert "so it has fallen from " in finding.cause.render()


def test_half_of_a_weight_is_enough(tmp_path: Path) -> None:
    found = judged(trained(each_alone, lr=0.03), tmp_path / "run")
    (finding,) = (each for each in found if each.code == "SG808")
    assert 0.3 < finding.evidence[0].value < 0.5


def test_a_weight_that_has_hardly_moved_is_not_told(tmp_path: Path) -> None:
    found = judged(trained(each_alone, lr=1e-3), tmp_path / "run")
    assert "SG808" not in {each.code for each in found}


def test_a_weight_that_grows_is_a_multiplier(tmp_path: Path) -> None:
    found = judged(trained(all_at_once, up=True), tmp_path / "run")
    assert "SG808" not in {each.code for each in found}


def constrained(net: Twofold, losses: list[Tensor]) -> Tensor:
    """A constraint that is met from the start on."""
    return losses[0] + F.softplus(net.s[0]) * (losses[1] - 1000.0)


def test_a_multiplier_of_a_constraint_may_fall(tmp_path: Path) -> None:
    assert weights(constrained) == ["s"]
    found = judged(trained(constrained, up=True), tmp_path / "run")
    assert "SG808" not in {each.code for each in found}


def test_what_holds_a_weight_may_have_a_backward_of_its_own(tmp_path: Path) -> None:
    program = trained(each_alone, aside=lambda net: 0.01 * net.s.sum())
    assert "SG808" not in {each.code for each in judged(program, tmp_path / "run")}


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("total += torch.exp(-s) * loss", "total += torch.exp(-s) * loss + s"),
        ("y = (0.5 * (-v).exp() * each).sum()", "y = (0.5 * (-v).exp() * each + v).sum()"),
        (
            "return a / (2 * self.sigma ** 2) + b",
            "return a / (2 * self.sigma ** 2) + torch.log(self.sigma) + b",
        ),
        ("total = total + weight * loss", ""),
        ("total = (", ""),
    ],
)
def test_the_statement_is_shown_with_what_holds_the_weight(text: str, mended: str) -> None:
    assert with_held_weight(text) == mended


SCRIPT = """
import torch
from torch import nn


class Weighed(nn.Module):
    def __init__(self):
        super().__init__()
        self.s = nn.Parameter(torch.zeros(2))

    def forward(self, losses):
        return (torch.exp(-self.s) * torch.stack(losses)).sum()


net, weighed = nn.Linear(6, 2), Weighed()
optimizer = torch.optim.SGD([*net.parameters(), *weighed.parameters()], lr=0.3)
for _ in range(40):
    out = net(torch.randn(16, 6)) - 2
    optimizer.zero_grad()
    weighed([out[:, 0].square().mean(), out[:, 1].abs().mean()]).backward()
    optimizer.step()
"""


def test_the_line_of_the_product_is_shown(tmp_path: Path) -> None:
    import seismograd

    file = tmp_path / "weighed.py"
    file.write_text(SCRIPT)
    torch.manual_seed(0)
    with seismograd.watch(out=tmp_path / "run") as recording:
        exec(compile(SCRIPT, str(file), "exec"), {"__name__": "weighed"})
    (finding,) = (each for each in recording.findings if each.code == "SG808")
    assert finding.where.endswith("weighed.py:12")
    assert finding.excerpt == "return (torch.exp(-self.s) * torch.stack(losses) + self.s).sum()"
