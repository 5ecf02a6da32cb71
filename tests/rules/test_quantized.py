"""SG803 on autoencoders that quantize what they encode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

import seismograd  # noqa: E402
from seismograd.record.reader import open_run  # noqa: E402
from seismograd.schema import FactKind, Finding  # noqa: E402

SIZE, LATENT, NUM, STEPS = 8, 4, 6, 8
Numbers = Any


class Autoencoder(nn.Module):
    """With a codebook; `look_up` gives the vectors, `passed` what the decoder gets."""

    def __init__(self, look_up: str, passed: Callable[[Numbers, Numbers], Numbers]) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(SIZE, 16), nn.Tanh(), nn.Linear(16, LATENT))
        self.decoder = nn.Sequential(nn.Linear(LATENT, 16), nn.Tanh(), nn.Linear(16, SIZE))
        self.codebook = nn.Embedding(NUM, LATENT)
        self.look_up, self.passed = look_up, passed

    def forward(self, x: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        z = self.encoder(x)
        indices = torch.cdist(z, self.codebook.weight).argmin(1)
        if self.look_up == "embedding":
            quantized = self.codebook(indices)
        elif self.look_up == "index":
            quantized = self.codebook.weight[indices]
        elif self.look_up == "mask":
            quantized = F.one_hot(indices, NUM).float() @ self.codebook.weight
        else:  # as images have them
            quantized = self.codebook(indices).view(-1, 2, 2).permute(0, 2, 1).reshape(-1, LATENT)
            z = z.view(-1, 2, 2).permute(0, 2, 1).reshape(-1, LATENT)
        return self.decoder(self.passed(z, quantized)), z, quantized


def by_function(z: Numbers, q: Numbers) -> Numbers:
    return F.mse_loss(q, z.detach()) + 0.25 * F.mse_loss(z, q.detach())


def by_squares(z: Numbers, q: Numbers) -> Numbers:
    return ((q - z.detach()) ** 2).mean() + 0.25 * (q.detach() - z).pow(2).mean()


def by_both(z: Numbers, q: Numbers) -> Numbers:
    return F.mse_loss(z.detach(), q) + 0.25 * ((z - q.detach()) ** 2).sum(1).mean()


def trained(
    out: Path,
    look_up: str,
    pull: Callable[[Numbers, Numbers], Numbers],
    passed: Callable[[Numbers, Numbers], Numbers],
) -> tuple[Finding, ...]:
    torch.manual_seed(0)
    model = Autoencoder(look_up, passed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with seismograd.watch(model, optimizer, out=out) as recording:
        for _ in range(STEPS):
            x = torch.randn(32, SIZE)
            optimizer.zero_grad()
            rebuilt, z, quantized = model(x)
            loss = F.mse_loss(rebuilt, x) + pull(z, quantized)
            loss.backward()
            optimizer.step()
    return tuple(each for each in recording.findings if each.code == "SG803")


@pytest.mark.parametrize("look_up", ["embedding", "index", "mask", "image"])
@pytest.mark.parametrize("pull", [by_function, by_squares, by_both])
def test_a_decoder_that_gets_the_vectors_themselves_is_found(
    look_up: str, pull: Callable[[Numbers, Numbers], Numbers], tmp_path: Path
) -> None:
    (finding,) = trained(tmp_path / "run", look_up, pull, lambda z, q: q)
    assert finding.severity == "error"
    assert finding.parameters == tuple(
        f"encoder.{number}.{kind}" for number in (0, 2) for kind in ("weight", "bias")
    )
    assert "(4 parameters, first encoder.0.weight)" in finding.cause.render()
    assert finding.excerpt.endswith(
        "quantized = z + (quantized - z).detach()  # z: what was quantized"
    )


@pytest.mark.parametrize(
    "passed",
    [
        lambda z, q: z + (q - z).detach(),
        lambda z, q: q + z - z.detach(),  # the codebook learns from the decoder as well
        lambda z, q: q.detach() + z - z.detach(),
        lambda z, q: torch.cat([q[:, :2], z[:, 2:]], 1),
        lambda z, q: z,
    ],
)
@pytest.mark.parametrize(("look_up", "pull"), [("embedding", by_function), ("image", by_squares)])
def test_what_the_loss_reaches_by_another_way_is_left_alone(
    look_up: str,
    pull: Callable[[Numbers, Numbers], Numbers],
    passed: Callable[[Numbers, Numbers], Numbers],
    tmp_path: Path,
) -> None:
    assert trained(tmp_path / "run", look_up, pull, passed) == ()
    assert not [f for f in open_run(tmp_path / "run").facts if f.kind == FactKind.QUANTIZED_CUT]


def test_an_embedding_beside_an_encoder_is_no_codebook(tmp_path: Path) -> None:
    # two networks that are trained at once; neither is to reach the other
    assert (
        trained(tmp_path / "run", "embedding", lambda z, q: z.square().mean(), lambda z, q: q) == ()
    )
