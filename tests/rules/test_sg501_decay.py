"""SG501 on programs with a weight decay that is added to what the clip has left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from tests.rules.programs import Listen, Program, batch, mlp  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402

Make = Callable[..., torch.optim.Optimizer]


def clipped(make: Make, limit: float = 1e-4, **options: float) -> Program:
    def program(listen: Listen) -> None:
        net = mlp(3, nn.Tanh)
        opt = make(net.parameters(), **options)
        with listen():
            for step in range(60):
                opt.zero_grad()
                F.cross_entropy(net(batch(step)[0]), batch(step)[1]).backward()
                nn.utils.clip_grad_norm_(net.parameters(), limit)
                opt.step()

    return program


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.RMSprop, torch.optim.SGD])
def test_decay_that_exceeds_the_clipped_gradient_is_the_only_finding(
    make: Make, tmp_path: Path
) -> None:
    program = clipped(make, lr=0.01, weight_decay=5e-4)
    (finding,) = judged(program, tmp_path / "run")
    assert (finding.code, finding.severity) == ("SG501", "warning")
    assert "times the gradient, so the weights follow the decay" in finding.cause.render()
    ratio = finding.evidence[-1]
    assert (ratio.statistic, ratio.value > 1) == ("decay_ratio", True)


@pytest.mark.parametrize(
    "program",
    [
        clipped(torch.optim.Adam, lr=0.01),
        clipped(torch.optim.AdamW, lr=0.01, weight_decay=0.1),
        clipped(torch.optim.Adam, lr=0.01, weight_decay=1e-6),
    ],
    ids=["none", "decoupled", "small"],
)
def test_without_it_adam_only_hides_the_limit(program: Program, tmp_path: Path) -> None:
    assert [(e.code, e.severity) for e in judged(program, tmp_path / "run")] in (
        [],
        [("SG501", "info")],
    )


def test_decay_at_a_limit_that_rarely_binds_is_healthy(tmp_path: Path) -> None:
    program = clipped(torch.optim.Adam, 1.0, lr=0.003, weight_decay=5e-4)
    assert judged(program, tmp_path / "run") == ()
