from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

from seismograd.capture.graph.loss_terms import sizes_of_terms  # noqa: E402


def test_each_term_has_its_size_and_its_function() -> None:
    torch.manual_seed(0)
    out = torch.randn(12, 3, requires_grad=True)
    one = F.mse_loss(out, torch.randn(12, 3))
    two = F.cross_entropy(out, torch.randint(3, (12,)))
    three = out.abs().mean()
    terms = {term.function: term.size for term in sizes_of_terms(one / 4 - 7 * two + three + 2)}
    assert terms == {
        "mse_loss": pytest.approx(one.item() / 4),
        "cross_entropy": pytest.approx(7 * two.item()),
        "mean": pytest.approx(three.item()),
    }


def test_nothing_is_said_where_one_term_is_not_known() -> None:
    out = torch.randn(4, requires_grad=True)
    assert sizes_of_terms(out.square().mean() + out.cumsum(0)[-1].cos()) == []
