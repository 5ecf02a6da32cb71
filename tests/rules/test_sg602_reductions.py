"""SG602 on losses that add a mean and a sum, from their graphs and in a program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from seismograd.analysis.mended_reduction import divided  # noqa: E402
from seismograd.capture.graph.mixed_reductions import mixed  # noqa: E402
from seismograd.capture.source.reduced_terms import summing_statement  # noqa: E402
from tests.rules.programs import Listen, adam  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402

NUM, FEATURES, LATENT = 16, 20, 3
Loss = Callable[[nn.Module, Tensor], Tensor]


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.decoder = nn.Linear(FEATURES, 2 * LATENT), nn.Linear(LATENT, FEATURES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, logvar = self.encoder(x).chunk(2, dim=1)
        return self.decoder(mean + torch.randn_like(mean) * (0.5 * logvar).exp()), mean, logvar


def kl(mean: Tensor, logvar: Tensor) -> Tensor:
    return -0.5 * torch.sum(1 + logvar - mean.pow(2) - logvar.exp())


def with_kl(error: Callable[[Tensor, Tensor], Tensor], weight: float = 1.0) -> Loss:
    def of(model: nn.Module, x: Tensor) -> Tensor:
        made, mean, logvar = model(x)
        return error(made, x) + weight * kl(mean, logvar)

    return of


def bce(made: Tensor, x: Tensor) -> Tensor:
    return F.binary_cross_entropy(made.sigmoid(), x.sigmoid())


def by_hand(made: Tensor, x: Tensor) -> Tensor:
    return ((made - x) ** 2).mean()


def summed(made: Tensor, x: Tensor) -> Tensor:
    return F.mse_loss(made, x, reduction="sum")


def of_each(made: Tensor, x: Tensor) -> Tensor:
    """A sum over the features, averaged over the batch."""
    return ((made - x) ** 2).sum(1).mean()


def divided_by_batch(model: nn.Module, x: Tensor) -> Tensor:
    made, mean, logvar = model(x)
    return (summed(made, x) + kl(mean, logvar)) / NUM


def penalised(model: nn.Module, x: Tensor) -> Tensor:
    """Weights whose first size is that of the batch."""
    weight = torch.ones(NUM, 4, requires_grad=True)
    return F.mse_loss(model(x)[0], x) + weight.pow(2).sum() + weight.abs().sum()


def averaged(model: nn.Module, x: Tensor) -> Tensor:
    made, mean, logvar = model(x)
    return F.mse_loss(made, x) + (mean.pow(2) + logvar.exp() - logvar).mean()


FAULTY = {
    "mse": with_kl(F.mse_loss),
    "bce": with_kl(bce),
    "by hand": with_kl(by_hand),
    "a weight of 2": with_kl(F.mse_loss, 2.0),
}
HEALTHY = {
    "both summed": with_kl(summed),
    "both summed over features": with_kl(of_each),
    "both divided": divided_by_batch,
    "both averaged": averaged,
    "a penalty on weights": penalised,
}


@pytest.mark.parametrize("loss", FAULTY.values(), ids=FAULTY)
def test_a_mean_and_a_sum_over_one_batch_are_found(loss: Loss) -> None:
    found = mixed(loss(Autoencoder(), torch.randn(NUM, FEATURES)).grad_fn)
    assert found is not None
    mean, total = found
    assert (mean.numel, total.numel) == (NUM * FEATURES, NUM * LATENT)
    scale = 2.0 if loss is FAULTY["a weight of 2"] else 1.0
    assert total.weight / mean.weight == pytest.approx(0.5 * scale * NUM * FEATURES)


@pytest.mark.parametrize("loss", HEALTHY.values(), ids=HEALTHY)
def test_terms_that_are_reduced_alike_are_left_alone(loss: Loss) -> None:
    assert mixed(loss(Autoencoder(), torch.randn(NUM, FEATURES)).grad_fn) is None


def trained(loss: Loss) -> Callable[[Listen], None]:
    def program(listen: Listen) -> None:
        model = Autoencoder()
        optimizer = adam(model)
        x = torch.randn(NUM, FEATURES, generator=torch.Generator().manual_seed(0))
        with listen(model, optimizer):
            for _ in range(12):
                optimizer.zero_grad()
                loss(model, x).backward()
                optimizer.step()

    return program


def test_a_program_is_told_by_how_much(tmp_path: Path) -> None:
    (finding,) = judged(trained(with_kl(F.mse_loss)), tmp_path / "run")
    assert (finding.code, finding.severity, finding.first_step) == ("SG602", "warning", 0)
    assert "a mean over 320 numbers and a sum over 48" in finding.cause.render()
    assert "as much as 160 in the mean" in finding.cause.render()
    assert "/ 320" in finding.excerpt


def test_a_sum_with_a_small_factor_is_small_on_purpose(tmp_path: Path) -> None:
    assert judged(trained(with_kl(F.mse_loss, 1 / 320)), tmp_path / "run") == ()


def test_the_statement_that_sums_up_is_mended(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "def train(x):\n"
        "    kld = -0.5 * torch.sum(1 + x)\n"
        "    error = total.sum() / 16\n"
        "    count = mask.sum(1)\n"
    )
    found = summing_statement(str(script))
    assert found is not None
    assert found.line == 2
    assert divided(found.text, 320).startswith("kld = -0.5 * torch.sum(1 + x) / 320  # ")
    assert divided("", 320).startswith("loss = mean_term + sum_term / 320")
