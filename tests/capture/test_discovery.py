"""What is made anywhere in the process is found by its class, without a call of the program."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from seismograd.capture.names.discovery import instances

KINDS = (nn.Module, torch.optim.Optimizer)


class Strange(type):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(cls, other: object) -> bool:
        raise AssertionError("the program's own code was run")


class OfStrange(metaclass=Strange):
    pass


def test_instances_are_found_in_their_order() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    things: list[Any] = [1, optimizer, "text", model, [], model[0], nn.Linear, object()]
    expected = [optimizer, model, model[0]]
    assert list(map(id, instances(things, KINDS))) == list(map(id, expected))


def test_no_code_of_a_metaclass_runs() -> None:
    model = nn.Linear(2, 2)
    assert list(map(id, instances([OfStrange(), model, 1], KINDS))) == [id(model)]
