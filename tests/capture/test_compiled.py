"""What a compiled loop hides is said, and is not taken for what was heard."""

from __future__ import annotations

from collections.abc import Callable, Generator

import pytest
import torch
from torch import Tensor, nn

from seismograd.schema import EventFlag, EventKind, StepFlag
from tests.capture.loops import LOOPS, batch, loss_of, mlp, told_nothing
from tests.capture.watched import Watched, watched

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings(
        "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
    ),
]


@pytest.fixture(autouse=True)
def _nothing_compiled_before() -> Generator[None]:
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()


def unheard(kept: Watched) -> list[bool]:
    return [bool(int(row.step["flags"]) & StepFlag.UNHEARD) for row in kept.rows]


def steps_of(wrap: Callable[..., Callable[..., Tensor]], num: int = 4) -> Watched:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    taken = wrap(step)
    with watched() as kept:
        for number in range(num):
            taken(*batch(number))
    return kept


def test_a_step_that_is_compiled_whole_is_said_not_to_be_heard() -> None:
    kept = steps_of(torch.compile(backend="eager"))
    assert unheard(kept) == [True] * 4
    assert [note.kind for note in kept.notes] == ["unheard"]
    assert "compiled" in kept.notes[0].message.render()
    assert all(float(row.step["grad_norm"]) <= 1.001e-3 for row in kept.rows)  # what the clip left


def test_the_same_step_that_is_not_compiled_is_heard() -> None:
    kept = steps_of(lambda step: step)
    assert unheard(kept) == [False] * 4
    assert [note.kind for note in kept.notes] == []
    assert [float(row.step["clip_limit"]) for row in kept.rows] == pytest.approx([1e-3] * 4)


@pytest.mark.parametrize(
    "name", ["torch.compile of the optimizer's step", "gradients set by hand (autograd.grad)"]
)
def test_a_backward_that_is_not_compiled_is_not_said_to_be(name: str) -> None:
    loop = next(each for each in LOOPS if each.name == name)
    with watched() as kept:
        loop.run(told_nothing)
    assert unheard(kept) == [False] * len(kept.rows)
    assert [note.kind for note in kept.notes] == []


def test_a_loss_that_is_divided_outside_of_what_is_compiled_is_known_to_be() -> None:
    """As nanoGPT with `compile=True`."""
    with watched() as kept:
        model = mlp()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        compiled = torch.compile(
            lambda x, y: nn.functional.cross_entropy(model(x), y), backend="aot_eager"
        )
        for number in range(4):
            (compiled(*batch(number)) / 2).backward()
            if number % 2:
                optimizer.step()
                optimizer.zero_grad()
    assert kept.heard(EventKind.BACKWARD) == [(EventFlag.RESCALED, 1)] * 4
    assert unheard(kept) == [False] * 2


def test_a_loop_that_is_not_compiled_is_heard_beside_one_that_is() -> None:
    other = torch.compile(lambda x: x.square().sum(), backend="eager")
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watched() as kept:
        for number in range(3):
            other(torch.ones(2))
            optimizer.zero_grad()
            loss_of(model, number).backward()
            optimizer.step()
    assert unheard(kept) == [False] * 3
    assert [note.kind for note in kept.notes] == []


def test_a_sample_compiles_in_one_piece_as_it_does_without_us() -> None:
    model = mlp()

    def drawn(x: Tensor) -> Tensor:
        given = torch.distributions.Normal(model(x), 1.0)
        return given.sample() + given.mean

    def once() -> Tensor:
        torch.compiler.reset()
        torch.manual_seed(0)
        return torch.compile(drawn, backend="eager", fullgraph=True)(batch(0)[0])

    expected = once()
    with watched():
        assert torch.equal(once(), expected)
