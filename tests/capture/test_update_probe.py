"""The probe says what each step changed of the weights: as float64 has it, for every parameter
in turn, without touching anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seismograd.capture.hub import HUB
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.probes.slice_positions import box, flat
from seismograd.capture.probes.update_probe import EVERY, NUM_DENSE, UpdateProbe
from seismograd.measure.backend_selection import best_copies, make_backend
from seismograd.measure.weight_updates import compare, keep
from seismograd.schema import Note, State, StepFlag
from tests.capture.sessions import make_session
from tests.single_rows import RowList

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

Step = Callable[[], object]


class Watched:
    """The rows of a program, and what its steps did to each parameter  # before, after,
    gradient, in float64.
    """

    def __init__(
        self, model: torch.nn.Module, *optimizers: torch.optim.Optimizer, sampling: bool = True
    ) -> None:
        self.rows = RowList()
        self.notes: list[Note] = []
        self.session = make_session(
            make_backend(),
            self.rows.take,
            self.notes.append,
            [model],
            optimizers,
            sampling=sampling,
        )
        self._parameters = dict(model.named_parameters())
        self.changes: list[dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]] = []

    def step(self, step: Step) -> None:
        before = {name: p.detach().double().clone() for name, p in self._parameters.items()}
        step()
        self.changes.append(
            {
                name: (
                    before[name],
                    p.detach().double().clone(),
                    torch.zeros(p.shape) if p.grad is None else p.grad.double().clone(),
                )
                for name, p in self._parameters.items()
            }
        )

    def probed(self, number: int) -> dict[str, tuple[float, float]]:
        row = self.rows[number]
        ratios, unmoved = row.values["update_ratio"], row.values["unmoved"]
        return {
            p.name: (ratios[i], unmoved[i])
            for i, p in enumerate(row.parameters)
            if not np.isnan(ratios[i])
        }

    def expected(self, number: int, name: str) -> tuple[float, float]:
        before, after, gradient = self.changes[number][name]
        moved = gradient != 0
        share = int((moved & (before == after)).sum()) / int(moved.sum())
        return float((after - before).norm() / before.norm()), share


@contextmanager
def watched(
    model: torch.nn.Module, *optimizers: torch.optim.Optimizer, sampling: bool = True
) -> Iterator[Watched]:
    kept = Watched(model, *optimizers, sampling=sampling)
    HUB.attach(kept.session)
    try:
        yield kept
    finally:
        HUB.detach(kept.session)
        kept.session.finish()
    assert kept.session.guard.failures == {}, kept.notes


def net(width: int = 8, dtype: torch.dtype = torch.float32) -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(4, width), torch.nn.ReLU(), torch.nn.Linear(width, 3)
    ).to(dtype)


def train(
    kept: Watched, model: torch.nn.Module, optimizer: torch.optim.Optimizer, num_steps: int
) -> None:
    dtype = next(model.parameters()).dtype
    for _ in range(num_steps):
        optimizer.zero_grad()
        model(torch.randn(5, 4, dtype=dtype)).square().mean().backward()
        kept.step(optimizer.step)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_ratio_and_unmoved_are_those_of_float64(
    dtype: torch.dtype, kind: type[torch.optim.Optimizer]
) -> None:
    model = net(dtype=dtype)
    optimizer = kind(model.parameters(), lr=1e-3)
    with watched(model, optimizer) as kept:
        train(kept, model, optimizer, 8)
    seen = set[str]()
    for number in range(8):
        assert len(kept.probed(number)) == 1
        for name, found in kept.probed(number).items():
            seen.add(name)
            expected = kept.expected(number, name)
            np.testing.assert_allclose(found[1], expected[1], rtol=1e-9)
            if dtype != torch.bfloat16:  # see test_intended
                np.testing.assert_allclose(found[0], expected[0], rtol=1e-9)
    assert seen == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_in_bfloat16_a_small_step_leaves_most_of_the_weights_where_they_were() -> None:
    model = net(dtype=torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    with watched(model, optimizer) as kept:
        train(kept, model, optimizer, 4)
    assert all(unmoved > 0.9 for number in range(4) for _, unmoved in kept.probed(number).values())


def test_each_of_many_parameters_comes_every_tenth_step() -> None:
    model = torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in range(20)))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with watched(model, optimizer) as kept:
        for _ in range(20):
            optimizer.zero_grad()
            model(torch.ones(2, 3)).sum().backward()
            kept.step(optimizer.step)
    for first in (0, 10):
        names = [name for number in range(first, first + 10) for name in kept.probed(number)]
        assert len(names) == len(set(names)) == 40


@pytest.mark.parametrize("transposed", [False, True])
def test_of_a_large_tensor_a_slice_is_compared_and_another_one_the_next_time(
    transposed: bool,
) -> None:
    weight = torch.nn.Parameter(torch.ones(1000, 200).t() if transposed else torch.ones(200, 1000))
    weight.grad = torch.zeros_like(weight)
    probe, room, numbers = UpdateProbe(), 16384, np.arange(200_000).reshape(200, 1000)
    slices = [
        numbers[box((200, 1000), room, turn)]
        if transposed
        else numbers.ravel()[slice_of(200_000, room, turn)]
        for turn in (0, 1)
    ]
    assert slices[0].ravel()[0] != slices[1].ravel()[0]
    for turn, chosen in enumerate(slices):
        marks = torch.from_numpy(np.isin(numbers, chosen))
        weight.grad.copy_(marks)
        probe.step_begins([weight], closure=False, num_requested=probe.num_requested(len([weight])))
        with torch.no_grad():
            weight[marks] *= 1 + 2.0**-turn  # exact; elsewhere nothing moves
        probed = probe.step_ends(ParameterTable(), None)
        assert probed is not None
        np.testing.assert_array_equal(probed.settled()[:, 0], [2.0**-turn, 0.0])


def slice_of(count: int, room: int, turn: int) -> slice:
    start, length = flat(count, room, turn)
    return slice(start, start + length)


@given(st.integers(1, 500), st.integers(1, 300))
def test_the_turns_go_through_all_of_a_contiguous_tensor_in_pieces_that_fit(
    count: int, room: int
) -> None:
    seen = set[int]()
    for turn in range(-(-count // room)):
        piece = range(count)[slice_of(count, room, turn)]
        assert 1 <= len(piece) <= room
        seen.update(piece)
    assert len(seen) == count


@given(st.lists(st.integers(1, 6), max_size=4), st.integers(1, 300))
def test_the_turns_go_through_all_of_a_tensor_in_pieces_that_fit(
    shape: list[int], room: int
) -> None:
    numbers = np.arange(math.prod(shape)).reshape(shape)
    seen = set[int]()
    for turn in range(numbers.size):
        piece = np.ravel(numbers[box(shape, room, turn)]).tolist()
        assert 1 <= len(piece) <= room
        assert piece == list(range(piece[0], piece[0] + len(piece)))
        seen.update(piece)
    assert len(seen) == numbers.size


def test_the_scalars_copied_in_a_step_are_bounded() -> None:
    parameters = [torch.nn.Parameter(torch.ones(500, 400)) for _ in range(30)]
    for p in parameters:
        p.grad = torch.ones_like(p)
    probe = UpdateProbe()
    probe.step_begins(parameters, closure=False, num_requested=probe.num_requested(len(parameters)))
    assert probe.pending is not None
    copied = sum(count for *_, count in probe.pending.slices) + sum(
        group.numbers.numel() for group in probe.pending.kept
    )
    assert 0 < copied <= 30 * 500 * 400 / 200


def test_after_the_first_steps_each_of_few_parameters_comes_every_tenth_step_too() -> None:
    parameters = [torch.nn.Parameter(torch.ones(2)) for _ in range(4)]
    for p in parameters:
        p.grad = torch.ones_like(p)
    probe, num_probed = UpdateProbe(), list[int]()
    for _ in range(NUM_DENSE + 100):
        num_requested = probe.num_requested(len(parameters))
        if num_requested:
            probe.step_begins(parameters, closure=False, num_requested=num_requested)
        probed = probe.step_ends(ParameterTable(), None)
        num_probed.append(0 if probed is None else len(probed.columns))
    assert num_probed[:NUM_DENSE] == [1] * NUM_DENSE
    assert sum(num_probed[NUM_DENSE:]) == 4 * 100 / EVERY


def test_a_step_that_raised_is_not_taken_for_the_beginning_of_a_later_one() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    def broken() -> float:
        raise RuntimeError("the script catches it")

    with watched(model, optimizer) as kept:
        for number in range(NUM_DENSE):
            # so that turns come in these steps, and in those that raise
            train(kept, model, optimizer, 3)
            if number >= NUM_DENSE // 2:
                with pytest.raises(RuntimeError):
                    optimizer.step(broken)
                with torch.no_grad():
                    model[0].weight.add_(0.01)  # which no step did
    seen = [
        ratio
        for row in kept.rows
        for ratio in row.values["update_ratio"][~np.isnan(row.values["update_ratio"])]
    ]
    assert len(seen) > NUM_DENSE
    assert set(seen) == {0.0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@given(seed=st.integers(0, 2**32), count=st.integers(1, 40))
def test_the_kernel_and_torch_say_the_same(dtype: torch.dtype, seed: int, count: int) -> None:
    copies = best_copies()
    if copies is None:
        pytest.skip("the kernel was not built: pip install -e .")
    generator = torch.Generator().manual_seed(seed)

    def numbers() -> torch.Tensor:
        drawn = torch.randn(count, generator=generator)
        drawn[torch.rand(count, generator=generator) < 0.3] = 0
        drawn[torch.rand(count, generator=generator) < 0.02] = math.nan
        drawn[torch.rand(count, generator=generator) < 0.1] = 1e-42
        return drawn.to(dtype)

    weight, gradient, other = numbers(), numbers(), numbers()
    after = torch.where(torch.rand(count, generator=generator) < 0.5, weight, other)
    kept = keep([weight], [gradient])
    copies.keep([(weight, gradient, 0, count)])
    weight.copy_(after)
    (expected,) = compare(kept, [weight], None)
    np.testing.assert_allclose(
        copies.compare([(weight, None, 0, count)]), expected.numbers.numpy(), rtol=1e-12
    )


def test_a_closure_is_probed_around_the_whole_step() -> None:
    model = net()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
    batch = torch.randn(5, 4)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        loss.backward()
        return loss

    with watched(model, optimizer) as kept:
        for _ in range(4):
            kept.step(lambda: optimizer.step(closure))
    for number in range(4):
        ((name, found),) = kept.probed(number).items()
        np.testing.assert_allclose(found, kept.expected(number, name), rtol=1e-9)


def test_a_step_that_the_scaler_leaves_out_has_no_update() -> None:
    model = net()
    for kwargs in ({}, {"fused": True}):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, **kwargs)
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        with watched(model, optimizer) as kept:
            for number in range(3):
                optimizer.zero_grad()
                loss = model(torch.randn(5, 4)).square().mean() * (math.inf if number == 1 else 1)
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
        assert len(kept.probed(0)) == 1
        assert kept.probed(1) == {}
        assert len(kept.probed(2)) == 1


def test_what_cannot_be_compared_is_left_out_and_the_rest_is_probed() -> None:
    model = torch.nn.Module()
    model.table = torch.nn.Embedding(10, 3, sparse=True)
    model.phase = torch.nn.Parameter(torch.ones(3, dtype=torch.complex64))
    model.frozen = torch.nn.Parameter(torch.ones(3), requires_grad=False)
    model.plain = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watched(model, optimizer) as kept:
        for _ in range(2):
            optimizer.zero_grad()
            (model.table(torch.tensor([1, 2])) * model.phase.abs() * model.plain).sum().backward()
            optimizer.step()
    assert [set(kept.probed(number)) for number in (0, 1)] == [{"plain"}, {"plain"}]


def test_weights_of_any_strides_are_compared() -> None:
    model = net()
    model[0].weight.data = model[0].weight.data.t().contiguous().t()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watched(model, optimizer) as kept:
        train(kept, model, optimizer, 4)
    names = {name for number in range(4) for name in kept.probed(number)}
    assert "0.weight" in names
    for number in range(4):
        for name, found in kept.probed(number).items():
            np.testing.assert_allclose(found, kept.expected(number, name), rtol=1e-9)


def test_weights_of_zero_have_an_infinite_ratio_and_no_gradient_has_no_share() -> None:
    zeros, idle = torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.ones(3))
    zeros.grad, idle.grad = torch.ones(3), torch.zeros(3)
    probe, found = UpdateProbe(), list[tuple[float, float]]()
    for _ in range(2):
        probe.step_begins(
            [zeros, idle], closure=False, num_requested=probe.num_requested(len([zeros, idle]))
        )
        with torch.no_grad():
            zeros -= 0.1
        probed = probe.step_ends(ParameterTable(), None)
        assert probed is not None
        found.append(tuple(probed.settled()[:, 0]))
    np.testing.assert_array_equal(found, [(math.inf, 0.0), (0.0, math.nan)])


def test_the_light_level_does_not_probe() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watched(model, optimizer, sampling=False) as kept:
        train(kept, model, optimizer, 4)
    assert all(kept.probed(number) == {} for number in range(4))
    assert all(
        (row.state == State.FINITE).all() and row.step["flags"] == StepFlag.NONE
        for row in kept.rows
    )
