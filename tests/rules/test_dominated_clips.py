"""SG501 where one term of the loss makes the norm that is clipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from tests.rules.programs import Listen, Program  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402

Combine = Callable[[Tensor, Tensor], Tensor]


def houses(unit: float, limit: float, combine: Combine) -> Program:
    """Prices in some unit, and whether a house was sold, from what is known of it."""

    def program(listen: Listen) -> None:
        torch.manual_seed(5)
        trunk, price, sold = nn.Linear(10, 24), nn.Linear(24, 1), nn.Linear(24, 2)
        model = nn.ModuleDict({"trunk": trunk, "price": price, "sold": sold})
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
        with listen(model, optimizer):
            for _ in range(60):
                x = torch.randn(40, 10)
                hidden = F.gelu(trunk(x))
                of_price = F.mse_loss(price(hidden)[:, 0], unit * (2 + x[:, 0] - x[:, 1]))
                of_sale = F.cross_entropy(sold(hidden), (x[:, 2] > 0).long())
                optimizer.zero_grad()
                combine(of_price, of_sale).backward()
                nn.utils.clip_grad_norm_(model.parameters(), limit)
                optimizer.step()

    return program


@pytest.mark.parametrize(
    "combine",
    [
        lambda price, sale: price + sale,
        lambda price, sale: sale + price,
        lambda price, sale: 0.5 * sale - (-price),
    ],
    ids=["sum", "the other way round", "weighted"],
)
def test_a_term_in_a_unit_of_its_own_is_named(combine: Combine, tmp_path: Path) -> None:
    (finding,) = judged(houses(3e5, 1.0, combine), tmp_path / "run")
    assert finding.code == "SG501"
    assert "cross_entropy" in finding.cause.render()
    assert "normalise the targets" in finding.advice.render()


@pytest.mark.parametrize("unit", [0.5, 1.0])
def test_a_limit_that_is_too_low_for_terms_of_one_size_is_no_matter_of_terms(
    unit: float, tmp_path: Path
) -> None:
    program = houses(unit, 1e-3, lambda price, sale: price + sale)
    (finding,) = judged(program, tmp_path / "run")
    assert finding.code == "SG501"
    assert "limit above the usual norm" in finding.advice.render()
