"""Which nodes of a graph only pass on what they are given."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from seismograd.capture.graph.loss_graph import below_views


def numbers() -> Tensor:
    return torch.ones(3, 2, requires_grad=True).exp()


@pytest.mark.parametrize(
    "view",
    [
        lambda values: values[:],
        lambda values: values[:, None],
        lambda values: values[:, :, None],
        lambda values: values[:, None, :].transpose(1, 2),
        lambda values: values.unsqueeze(1)[:].view(-1),
    ],
)
def test_a_slice_of_everything_is_passed_as_views_are(view: Callable[[Tensor], Tensor]) -> None:
    values = numbers()
    assert below_views(view(values).grad_fn) is values.grad_fn


@pytest.mark.parametrize(
    "part",
    [
        lambda values: values[1:],
        lambda values: values[:, :1],
        lambda values: values[::2],
        lambda values: values[:, 0],
    ],
)
def test_a_part_is_not(part: Callable[[Tensor], Tensor]) -> None:
    chosen = part(numbers()).grad_fn
    assert below_views(chosen) is chosen
