"""What is made anywhere in the process is found by its class, without a call of the program."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from seismograd.capture.names.discovery import descendants
from seismograd.capture.names.object_search import HAS_GENERATIONS, ObjectSearch, instances
from seismograd.measure.native import tensor_reads

KINDS = (nn.Module, torch.optim.Optimizer)


@pytest.fixture(params=[True, False], ids=["extension", "python"])
def asked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Who asks the things for their classes."""
    if not request.param:
        with tensor_reads.without_extension():
            yield
    elif tensor_reads.has_extension():
        yield
    else:
        pytest.skip("the extension was not built")


class Strange(type):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(cls, other: object) -> bool:
        raise AssertionError("the program's own code was run")


class OfStrange(metaclass=Strange):
    pass


@pytest.mark.usefixtures("asked")
def test_instances_are_found_in_their_order() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    things: list[Any] = [1, optimizer, "text", model, [], model[0], nn.Linear, object()]
    expected = [optimizer, model, model[0]]
    assert list(map(id, instances(things, KINDS))) == list(map(id, expected))


@pytest.mark.usefixtures("asked")
def test_no_code_of_a_metaclass_runs() -> None:
    model = nn.Linear(2, 2)
    assert list(map(id, instances([OfStrange(), model, 1], KINDS))) == [id(model)]


def test_the_extension_finds_what_python_finds() -> None:
    class Special(nn.Linear):
        __slots__ = ()

    kept = [Special(2, 2), nn.ReLU(), torch.optim.Adam([torch.zeros(1, requires_grad=True)])]
    everything = gc.get_objects()
    found = list(map(id, instances(everything, KINDS)))
    with tensor_reads.without_extension():
        assert found == list(map(id, instances(everything, KINDS)))
    assert set(map(id, kept)) <= set(found)
    if tensor_reads.has_extension():
        # what may decide itself what is below it is left to Python
        assert tensor_reads.of_kinds(kept, (Iterator,)) is None  # pyright: ignore
        assert tensor_reads.of_kinds(tuple(kept), KINDS) is None
        assert tensor_reads.of_kinds(kept, ()) == []


class CollectorCalls:
    """How the collector was asked for what it tracks: -1 for all of it, else the generation."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[int] = []
        self._listed = gc.get_objects
        monkeypatch.setattr(gc, "get_objects", self._list)

    def _list(self, generation: int | None = None) -> list[Any]:
        self.asked.append(-1 if generation is None else generation)
        return self._listed(generation=generation)

    def take(self) -> list[int]:
        asked, self.asked = self.asked, []
        return asked

    def everything(self) -> list[int]:
        """Return the ids of what a search through everything lists."""
        return list(map(id, instances(self._listed(), KINDS)))


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[CollectorCalls]:
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()  # no collection but those of the test
    yield CollectorCalls(monkeypatch)
    if was_enabled:
        gc.enable()


@pytest.mark.skipif(not HAS_GENERATIONS, reason="everything is searched each time")
def test_only_what_is_young_is_searched_once_more(collector: CollectorCalls) -> None:
    search = ObjectSearch()
    first, gone = nn.Linear(2, 2), nn.ReLU()
    assert list(map(id, search.instances(KINDS))) == collector.everything()
    assert collector.take() == [-1]
    gone_id = id(gone)
    second = torch.optim.SGD(first.parameters(), 0.1)
    gc.collect(0)  # whose survivors are young still
    third = nn.Linear(2, 2)
    del gone
    found = search.instances(KINDS)
    assert collector.take() == [0, 1]
    ids = list(map(id, found))
    assert ids == collector.everything()
    assert {id(first), id(second), id(third)} <= set(ids)
    assert gone_id not in ids or gone_id == id(third)  # in its place


@pytest.mark.parametrize(
    ("change", "is_listed"), [(lambda: gc.collect(1), True), (gc.collect, True), (gc.freeze, False)]
)
def test_everything_is_searched_once_young_objects_may_be_old(
    collector: CollectorCalls, change: Any, is_listed: bool
) -> None:
    search = ObjectSearch()
    search.instances(KINDS)
    model = nn.Linear(2, 2)
    change()
    collector.take()
    found = search.instances(KINDS)
    assert collector.take() == [-1]
    assert list(map(id, found)) == collector.everything()
    assert (id(model) in map(id, found)) == is_listed


def test_other_classes_are_searched_everywhere(collector: CollectorCalls) -> None:
    search = ObjectSearch()
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), 0.1)
    search.instances((nn.Module,))
    collector.take()
    assert id(optimizer) in map(id, search.instances(KINDS))
    assert collector.take() == [-1]


@pytest.mark.skipif(not HAS_GENERATIONS, reason="everything is searched each time")
def test_a_collection_in_the_middle_of_a_search_hides_nothing(
    collector: CollectorCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = ObjectSearch()
    search.instances(KINDS)
    model = nn.Linear(2, 2)
    gc.collect(0)
    listed = gc.get_objects

    def collects_first(generation: int | None = None) -> list[Any]:
        if generation == 1:  # the model becomes old before it is listed
            gc.collect(1)
        return listed(generation=generation)

    monkeypatch.setattr(gc, "get_objects", collects_first)
    assert id(model) in map(id, search.instances(KINDS))


def test_a_search_holds_nothing(collector: CollectorCalls) -> None:
    search = ObjectSearch()
    for _ in range(2):
        model = nn.Linear(2, 2)
        search.instances(KINDS)
        gone = weakref.ref(model)
        del model
        assert gone() is None


def test_a_module_that_holds_what_holds_it_ends_no_search() -> None:
    """As one that is given its parent, in an attribute."""
    parent, child = nn.Sequential(nn.Linear(1, 1)), nn.Sequential(nn.Linear(1, 1))
    parent.append(child)
    child.parent = parent
    assert list(descendants(parent)) == [parent[0], child, child[0]]
    del child.parent  # or others would find it
