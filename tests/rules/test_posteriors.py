"""SG602 on variational autoencoders whose posterior collapses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from seismograd.analysis.mended_reduction import summed as statement_summed  # noqa: E402
from seismograd.capture.graph.loss_graph import LossGraph  # noqa: E402
from seismograd.capture.graph.posteriors import posterior  # noqa: E402
from tests.rules.programs import Listen, Program  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402

NUM, SENSORS, LATENT = 32, 24, 3
Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class Compressor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enter = nn.Sequential(nn.Linear(SENSORS, 16), nn.Tanh())
        self.mean, self.logvar = nn.Linear(16, LATENT), nn.Linear(16, LATENT)
        self.leave = nn.Linear(LATENT, SENSORS)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.enter(x)
        mean, logvar = self.mean(h), self.logvar(h)
        return self.leave(mean + torch.randn_like(mean) * (0.5 * logvar).exp()), mean, logvar


def readings(step: int, size: float = 0.3) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    ways = torch.randn(2, SENSORS, generator=torch.Generator().manual_seed(99))
    factors = torch.randn(NUM, 2, generator=generator)
    return size * factors @ ways + 0.05 * torch.randn(NUM, SENSORS, generator=generator)


def kl_of_each(mean: Tensor, logvar: Tensor) -> Tensor:
    return -0.5 * (1 + logvar - mean.pow(2) - logvar.exp()).sum(dim=1)


def averaged(made: Tensor, x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    return F.mse_loss(made, x) + kl_of_each(mean, logvar).mean()


def by_batch(made: Tensor, x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    return kl_of_each(mean, logvar).sum() / len(x) + F.mse_loss(made, x)


def in_terms(made: Tensor, x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    kl = 0.5 * torch.mean(torch.sum(mean**2 + torch.exp(logvar) - logvar - 1, 1))
    return kl + F.smooth_l1_loss(made, x)


def summed(made: Tensor, x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    return F.mse_loss(made, x, reduction="sum") / len(x) + kl_of_each(mean, logvar).mean()


def all_averaged(made: Tensor, x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    return F.mse_loss(made, x) + kl_of_each(mean, logvar).mean() / SENSORS


def graph(loss: Loss) -> LossGraph:
    x = readings(0)
    made, mean, logvar = Compressor()(x)
    return LossGraph([loss(made, x, mean, logvar).grad_fn])


@pytest.mark.parametrize("loss", [averaged, by_batch, in_terms])
def test_a_divergence_is_measured(loss: Loss) -> None:
    found = posterior(graph(loss))
    assert found is not None
    _, mean, logvar = Compressor()(readings(0))
    assert found.divergence == pytest.approx(kl_of_each(mean, logvar).mean().item(), rel=1e-4)
    assert (found.latents, found.samples, found.mean) == (LATENT, NUM, NUM * SENSORS)
    assert found.times == pytest.approx(SENSORS)


def test_a_sum_beside_it_is_none() -> None:
    assert posterior(graph(summed)) is None


def test_factors_of_the_script_are_part_of_it() -> None:
    found = posterior(graph(all_averaged))
    assert found is not None
    assert found.times == pytest.approx(1.0)


def trained(loss: Loss, size: float = 0.3, steps: int = 150) -> Program:
    def program(listen: Listen) -> None:
        net = Compressor()
        optimizer = torch.optim.Adam(net.parameters(), 1e-2)
        with listen(net, optimizer):
            for step in range(steps):
                x = readings(step, size)
                made, mean, logvar = net(x)
                optimizer.zero_grad()
                loss(made, x, mean, logvar).backward()
                optimizer.step()

    return program


def test_a_collapse_is_told_with_its_reason(tmp_path: Path) -> None:
    (finding,) = (
        each for each in judged(trained(averaged), tmp_path / "run") if each.code == "SG602"
    )
    assert (finding.severity, finding.first_step, finding.last_step) == ("warning", 0, 149)
    assert "over 3 latents and averages the reconstruction over 768" in finding.cause.render()
    assert "F.mse_loss(" in finding.excerpt
    assert "reduction='sum') / len(x)" in finding.excerpt


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("rec = F.mse_loss(out, x)", "rec = F.mse_loss(out, x, reduction='sum') / len(x)"),
        (
            "return kl + 2 * nn.functional.mse_loss(y, x[0], reduction='mean')",
            "return kl + 2 * (nn.functional.mse_loss(y, x[0], reduction='sum') / len(x[0]))",
        ),
        ("rec = criterion(out, x)", ""),
        ("rec = F.mse_loss(", ""),
    ],
)
def test_the_statement_is_shown_summed(text: str, mended: str) -> None:
    assert statement_summed(text, "mse_loss") == mended


HEALTHY: dict[str, Program] = {
    "summed": trained(summed),
    "all averaged": trained(all_averaged),
    "averaged and not collapsed": trained(averaged, size=8.0),
    "too short to know": trained(averaged, steps=7),
}


@pytest.mark.parametrize("kind", HEALTHY)
def test_what_has_not_collapsed_is_left_alone(kind: str, tmp_path: Path) -> None:
    found = judged(HEALTHY[kind], tmp_path / "run")
    assert "SG602" not in {each.code for each in found}
