"""The update ratio of weights of sixteen bits is that of the update that the optimizer wanted,
not of what rounding made of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.capture.watched import watched

STEPS = 12
LR = 1e-5


class WithMaster(torch.optim.Optimizer):
    """Keeps the weights in float32, as apex and others do: momentum-free signs, so that the
    update is known.
    """

    def __init__(self, parameters: Any, lr: float, name: str = "master_param") -> None:
        super().__init__(parameters, {"lr": lr})
        self.name = name

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["unrelated"] = torch.ones(p.shape)
                    state[self.name] = p.detach().float().clone()
                state[self.name] -= group["lr"] * p.grad.float().sign()
                p.copy_(state[self.name])


class Signs(torch.optim.Optimizer):
    """Nothing is known of what it wanted."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p -= (group["lr"] * p.grad.float().sign()).to(p.dtype)


Make = Callable[[Any], torch.optim.Optimizer]


def recorded(
    make: Make, dtype: torch.dtype, shape: tuple[int, int] = (16, 24)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ratios and unmoved shares at each step that probed the weight, and the true ratios in
    float32 at all steps.
    """
    torch.manual_seed(0)
    model = nn.Linear(shape[1], shape[0], bias=False)
    model.to(dtype)
    exact = nn.Linear(shape[1], shape[0], bias=False)
    exact.weight.data.copy_(model.weight.data)
    true = []
    with watched() as heard:
        optimizer, reference = make(model.parameters()), make(exact.parameters())
        for _ in range(STEPS):
            gradient = torch.randn(shape)
            # whose square float16 does not lose
            gradient = (gradient + 0.1 * gradient.sign()).to(dtype)
            optimizer.zero_grad()
            (model.weight * gradient).sum().backward()
            optimizer.step()
            before = exact.weight.detach().clone()
            exact.weight.grad = gradient.float()
            reference.step()
            true.append(float((exact.weight.detach() - before).norm() / before.norm()))
    column = next(
        i
        for i, p in enumerate(heard.rows[-1].parameters)
        if p.dtype == str(dtype).removeprefix("torch.")
    )
    rows = [row for row in heard.rows if row.step["num_backwards"]]
    ratios, unmoved = (
        np.array([row.values[name][column] for row in rows]) for name in ("update_ratio", "unmoved")
    )
    return ratios, unmoved, np.array(true)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.AdamW(p, lr=LR, eps=1e-5),
        lambda p: torch.optim.AdamW(p, lr=LR, eps=1e-5, weight_decay=3.0, amsgrad=True),
        lambda p: torch.optim.Adam(p, lr=LR, eps=1e-5, weight_decay=0.1, foreach=True),
        lambda p: torch.optim.SGD(p, lr=LR),
        lambda p: torch.optim.SGD(p, lr=LR, momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, lr=LR, momentum=0.9, maximize=True),
    ],
    ids=["adamw", "amsgrad", "adam", "sgd", "nesterov", "maximize"],
)
def test_what_torchs_optimizers_wanted(make: Make, dtype: torch.dtype) -> None:
    ratios, unmoved, true = recorded(make, dtype)
    there = ~np.isnan(ratios)
    assert there.sum() >= STEPS - 2
    np.testing.assert_allclose(ratios[there], true[there], rtol=0.05)
    if dtype == torch.bfloat16:
        assert np.nanmean(unmoved) > 0.5  # the raw share stays


@pytest.mark.parametrize("name", ["master_param", "kept"])
def test_a_copy_in_the_optimizer_tells(name: str) -> None:
    ratios, unmoved, true = recorded(lambda p: WithMaster(p, LR, name), torch.bfloat16)
    there = ~np.isnan(ratios)
    assert there.sum() >= STEPS - 3  # at the first step there is no copy yet
    np.testing.assert_allclose(ratios[there], true[there], rtol=0.02)
    assert np.nanmean(unmoved) > 0.5


def test_where_nothing_is_known_rounding_is_no_ratio() -> None:
    ratios, unmoved, _ = recorded(lambda p: Signs(p, LR), torch.bfloat16)
    assert np.isnan(ratios).all()
    assert (unmoved > 0.5).any()


def test_where_most_has_moved_it_is_the_ratio_of_what_has() -> None:
    ratios, _, true = recorded(lambda p: Signs(p, 0.05), torch.bfloat16)
    there = ~np.isnan(ratios)
    assert there.sum() >= STEPS - 2
    np.testing.assert_allclose(ratios[there], true[there], rtol=0.2)


def test_weights_of_float32_are_compared_as_ever() -> None:
    ratios, _, true = recorded(lambda p: torch.optim.RMSprop(p, lr=1e-4), torch.float32)
    there = ~np.isnan(ratios)
    assert there.any()
    np.testing.assert_allclose(ratios[there], true[there], rtol=0.02)
