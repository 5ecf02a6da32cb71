"""The parameters of a model are counted as they are listed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn

from seismograd.capture.names.parameter_groups import num_parameters_below, parameters_below


def tied() -> nn.Module:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5, bias=False))
    model[1].weight = model[0].weight
    return model


def repeated() -> nn.Module:
    layer = nn.Linear(3, 3)
    return nn.Sequential(layer, nn.Sequential(layer, nn.ReLU()), layer)


def with_gaps() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3))
    model.register_module("none", None)
    model.register_parameter("nothing", None)
    return model


@pytest.mark.parametrize(("made", "num"), [(tied, 2), (repeated, 2), (with_gaps, 3), (nn.ReLU, 0)])
def test_parameters_are_counted_as_they_are_listed(made: Callable[[], nn.Module], num: int) -> None:
    model = made()
    assert len(list(parameters_below(model))) == num
    assert num_parameters_below(model) == num
