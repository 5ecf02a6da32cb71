"""What an operation saved for its backward pass is read without calling a hook of the program."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from seismograd.capture.events import EventHub
from seismograd.capture.hooks import packing_hooks
from seismograd.tensors import saved_tensors
from seismograd.tensors.saved_tensors import SHOWS_DATA, saved_list, saved_tensor

BOTH = pytest.mark.parametrize(
    "shows_data",
    [
        pytest.param(
            True,
            marks=pytest.mark.skipif(
                not SHOWS_DATA, reason="this torch does not show what is saved"
            ),
        ),
        False,
    ],
)


@contextmanager
def reading(shows_data: bool, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Read as with a torch that shows what is saved, or as with one that does not."""
    for module in (saved_tensors, packing_hooks):
        monkeypatch.setattr(module, "SHOWS_DATA", shows_data)
    undo = packing_hooks.install(EventHub())
    try:
        yield
    finally:
        undo()


def root() -> tuple[torch.Tensor, Any]:
    result = torch.full((3,), 4.0, requires_grad=True).sqrt()
    return result, result.grad_fn


@BOTH
def test_what_was_saved_is_read_and_does_not_keep_the_graph(
    shows_data: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reading(shows_data, monkeypatch):
        _, node = root()
        found = saved_tensor(node, "result")
        assert found is not None
        assert found.tolist() == [2.0] * 3
        assert found.grad_fn is None
        assert saved_tensor(node, "no such name") is None


@BOTH
def test_what_the_backward_pass_has_freed_is_not_read(
    shows_data: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reading(shows_data, monkeypatch):
        result, node = root()
        result.sum().backward()
        assert saved_tensor(node, "result") is None


@BOTH
@pytest.mark.parametrize("pack", [lambda tensor: [tensor], lambda _: 7])
def test_what_a_hook_has_packed_away_is_not_unpacked(
    shows_data: bool, pack: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unpack(_: Any) -> Any:
        raise AssertionError("unpacked")

    with reading(shows_data, monkeypatch):
        with saved_tensors_hooks(pack, unpack):
            _, node = root()
        assert saved_tensor(node, "result") is None


@BOTH
def test_of_a_list_is_read_what_was_saved(
    shows_data: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unpack(_: Any) -> Any:
        raise AssertionError("unpacked")

    places = torch.tensor([2, 0])
    with reading(shows_data, monkeypatch):
        chosen = torch.ones(2, 3, requires_grad=True)[..., places]
        first, last = saved_list(chosen.grad_fn, "indices")
        assert first is None
        assert last is not None
        assert last.tolist() == [2, 0]
        chosen.sum().backward()
        assert saved_list(chosen.grad_fn, "indices") == []
        with saved_tensors_hooks(lambda tensor: [tensor], unpack):
            chosen = torch.ones(2, 3, requires_grad=True)[..., places]
        assert not any(each is not None for each in saved_list(chosen.grad_fn, "indices"))


def test_the_class_of_the_hooks_is_as_it_was_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    original = vars(saved_tensors_hooks)["__enter__"]
    with reading(False, monkeypatch):
        assert vars(saved_tensors_hooks)["__enter__"] is not original
        with saved_tensors_hooks(lambda x: x, lambda x: x):
            _, node = root()
        assert saved_tensor(node, "result") is None
    assert vars(saved_tensors_hooks)["__enter__"] is original
    assert saved_tensor(root()[1], "result") is not None
