"""The program does not see our calls: its modes, its subclasses, its warnings."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.capture.watched import watched


class Functions(TorchFunctionMode):
    num = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.num += 1
        return func(*args, **(kwargs or {}))


class Operations(TorchDispatchMode):
    num = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.num += 1
        return func(*args, **(kwargs or {}))


class Counting(torch.Tensor):
    num = 0

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        Counting.num += 1
        return super().__torch_function__(func, types, args, kwargs or {})


class Group(dict[str, Any]):
    num = 0

    def __getitem__(self, key: str) -> Any:
        Group.num += 1
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        Group.num += 1
        return super().get(key, default)


def train(num_steps: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    model[0].weight = nn.Parameter(torch.randn(8, 4).as_subclass(Counting))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    optimizer.param_groups[0] = Group(optimizer.param_groups[0])
    for _ in range(num_steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(
            model(torch.randn(16, 4)), torch.zeros(16, dtype=torch.long)
        ).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def train_coarse(num_steps: int) -> None:
    """Weights of 16 bits, whose updates follow from the settings, and a schedule."""
    torch.manual_seed(0)
    model = nn.Linear(4, 8, dtype=torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    optimizer.param_groups[0] = Group(optimizer.param_groups[0])
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 5)
    for _ in range(num_steps):
        optimizer.zero_grad()
        model(torch.randn(16, 4, dtype=torch.bfloat16)).square().sum().backward()
        optimizer.step()
        schedule.step()


def counts() -> tuple[int, ...]:
    Counting.num = Group.num = 0
    train(3)
    with Functions() as functions:
        train(12)
    with Operations() as operations:
        train(12)
    return functions.num, operations.num, Counting.num, Group.num


def test_modes_subclasses_and_groups_of_the_program_see_as_many_calls_as_without_us() -> None:
    bare = counts()
    with watched():
        seen = counts()
    assert seen == bare


def test_groups_of_the_program_see_as_many_reads_of_schedules_and_coarse_weights() -> None:
    def num_reads() -> int:
        Group.num = 0
        for _ in range(3):  # made anew, as a program does by mistake
            train_coarse(12)
        return Group.num

    bare = num_reads()
    with watched():
        assert num_reads() == bare


def places_of_warnings() -> list[tuple[str, int]]:
    model = nn.Linear(2, 2)
    model.register_full_backward_hook(lambda *_: None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model(torch.ones(1, 2)).sum().backward()
        nn.utils.clip_grad_norm_((p for p in ()), 1.0)
    return [(each.filename, each.lineno) for each in caught]


def test_what_torch_warns_of_is_blamed_on_the_line_that_it_is_without_us() -> None:
    bare = places_of_warnings()
    with watched():
        assert places_of_warnings() == bare
    if not bare:
        pytest.skip("this torch warns of none of it")
    assert {file for file, _ in bare} == {__file__}
