"""Measuring on a device that is late, out of order and has several streams: the numbers are those
of each step, nobody waits, and nothing is overwritten before it was read.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from seismograd.measure import reference
from seismograd.measure.backend import Measurement
from seismograd.measure.cuda import cuda_backend, cuda_table, pieces, ring
from seismograd.measure.cuda.cuda_backend import CudaBackend
from seismograd.measure.reference import ReferenceBackend
from seismograd.tensors import freed_memory
from tests.measure.lazy_device import LazyDevice
from tests.measure.test_cuda import load_kernels
from tests.measure.test_native import assert_agrees

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning"),
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None,
        reason="Triton is not installed: pip install triton",
    ),
    pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels are not interpreted"),
]
SHAPES = ((2, 3), (4,), (3, 2))


@pytest.fixture(autouse=True)
def small_pieces() -> Iterator[None]:
    """So small that few numbers are cut into several, of several blocks."""
    with mock.patch.object(pieces, "PIECE", 40), mock.patch.object(cuda_table, "BLOCK", 16):
        yield


class LazyTraining:
    """Two optimizers' gradients on a lazy device, and the same measured by the reference."""

    def __init__(self, num_streams: int = 1) -> None:
        self.device = LazyDevice(num_streams)
        self.backend = CudaBackend(load_kernels, self.device, "cpu")
        self._exact = ReferenceBackend()
        self._gradients = [[torch.zeros(shape) for shape in SHAPES] for _ in range(2)]
        self._last_stream = [self.device.current] * 2
        self._generator = torch.Generator().manual_seed(0)
        self._memory: list[Tensor] = []  # on a device it is others' only in the order of the stream
        self.waiting: list[tuple[Measurement, Measurement, list[Tensor]]] = []

    def step(self, optimizer: int, moved: int, sample: bool) -> None:
        """Write gradients, of which those in the bits of `moved` lie elsewhere than before, and
        measure them.
        """
        gradients = self._gradients[optimizer]
        if self.device.current is not self._last_stream[optimizer]:
            moved = -1  # or a training would have to wait before it overwrites them
        self._last_stream[optimizer] = self.device.current
        now = [torch.randn(shape, generator=self._generator) for shape in SHAPES]
        for number, numbers in enumerate(now):
            numbers[torch.rand(len(numbers), generator=self._generator) < 0.5] = 0
            if moved >> number & 1:
                gradients[number] = torch.full(SHAPES[number], math.nan)
            self.device.do(lambda g=gradients[number], n=numbers: g.copy_(n))
        loss = torch.full((), math.nan)
        self.device.do(lambda: loss.copy_(now[0].sum()))
        keys = tuple(range(10 * optimizer, 10 * optimizer + len(SHAPES)))
        exact = self._exact.measure(now, now, keys, [now[0].sum()], sample)
        # weights are others than gradients, but have the same numbers
        weights = [torch.full_like(n, math.nan) for n in now]
        for weight, numbers in zip(weights, now, strict=True):
            self.device.do(lambda w=weight, n=numbers: w.copy_(n))
        self._memory += [*gradients, *weights, loss]
        measured = self.backend.measure(list(gradients), weights, keys, [loss], sample)
        self.waiting.append((measured, exact, now))

    def arrive(self, position: int) -> bool:
        """Take the numbers of a waiting step, if they have come; return whether they have."""
        measured, exact, now = self.waiting[position]
        if measured.pending is not None:
            if not measured.pending.is_done():
                return False
            measured.pending.finish()
        del self.waiting[position]
        assert_agrees(measured, exact, now)
        np.testing.assert_allclose(measured.scalars, exact.scalars, rtol=1e-6)
        return True

    def finish(self) -> None:
        self.device.finish()
        while self.waiting:
            assert self.arrive(0)


@settings(max_examples=20)
@given(data=st.data(), num_streams=st.integers(1, 3))
def test_each_step_has_its_numbers_whenever_and_on_whichever_stream_they_come(
    data: st.DataObject, num_streams: int
) -> None:
    with mock.patch.object(ring, "MOST_SLOTS", 2):  # fewer than there are steps under way
        training = LazyTraining(num_streams)
        for _ in range(data.draw(st.integers(1, 8), "steps")):
            training.device.current = data.draw(st.sampled_from(training.device.streams), "stream")
            training.step(
                data.draw(st.integers(0, 1), "optimizer"),
                data.draw(st.integers(0, 7), "moved"),
                data.draw(st.booleans(), "sample"),
            )
            for stream, num in data.draw(
                st.lists(
                    st.tuples(st.integers(0, num_streams - 1), st.integers(1, 30)), max_size=3
                ),
                "done",
            ):
                for _ in range(num):
                    training.device.streams[stream].advance()
            if training.waiting:
                position = data.draw(st.integers(0, len(training.waiting) - 1), "looked at")
                if data.draw(st.integers(0, 9)) == 0:
                    del training.waiting[position]  # nobody wants it any more
                else:
                    training.arrive(position)
        training.finish()


def test_another_stream_waits_for_the_last_measurement() -> None:
    """The second stream could do everything at once, while the first has not begun."""
    training = LazyTraining(num_streams=2)
    first, second = training.device.streams
    training.step(0, 7, sample=False)
    training.device.current = second
    training.step(0, 7, sample=True)
    while second.advance():
        pass
    assert second.queue
    assert not training.arrive(1)
    while first.advance() or second.advance():
        pass
    assert training.arrive(1)
    assert training.arrive(0)


def test_steps_that_come_in_time_need_no_new_memory_and_one_copy_each() -> None:
    training = LazyTraining()
    for number in range(12):
        training.step(0, 0, sample=number % 5 == 0)
        if number == 5:
            made = training.device.device_memory_made, training.device.host_memory_made
            copies = training.device.num_copies
        training.device.finish()
        training.arrive(0)
    assert made == (training.device.device_memory_made, training.device.host_memory_made)
    # in a step the loss and the numbers; in the sample also the pointers of the weights, which lie
    # elsewhere each time
    assert training.device.num_copies - copies == 2 * 6 + 1


@pytest.mark.parametrize("have_come", [False, True])
def test_steps_whose_numbers_nobody_has_taken_keep_them(have_come: bool) -> None:
    training = LazyTraining()
    for number in range(6):
        training.step(0, number, sample=False)
        if have_come:
            training.device.finish()
    assert have_come or not training.arrive(0)
    training.finish()


def test_only_pointers_that_have_changed_are_sent() -> None:
    training = LazyTraining()

    def sent(moved: int) -> list[int]:
        training.device.copied_bytes.clear()
        training.step(0, moved, sample=False)
        training.device.finish()
        training.arrive(0)
        return training.device.copied_bytes[1:-1]  # the loss first, the numbers last

    sent(0)
    assert sent(0b000) == []
    assert sent(0b010) == [8]
    assert sent(0b110) == [16]
    assert sent(0b101) == [24]
    assert sent(0b000) == []


def test_rows_that_were_measured_in_another_set_meanwhile_are_not_known() -> None:
    device = LazyDevice()
    backend = CudaBackend(load_kernels, device, "cpu")
    dead, other, alive = torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(2, 3)

    def dead_rows(gradients: list[Tensor], keys: tuple[int, ...]) -> list[float]:
        measured = backend.measure(gradients, gradients, keys, (), True)
        device.finish()
        assert measured.pending is not None
        measured.pending.finish()
        return measured.samples["dead_rows"].tolist()

    assert dead_rows([dead, other], (0, 1)) == [2, 2]
    assert dead_rows([dead], (2,)) == [2]
    backend.measure([alive], [alive], (0,), (), False)
    assert np.isnan(dead_rows([dead, other], (0, 1))).all()
    assert dead_rows([dead], (2,)) == [2]
    assert dead_rows([dead, other], (0, 1)) == [2, 2]


@pytest.mark.parametrize("transposed", [False, True])
def test_rows_that_come_alive_one_after_the_other_are_all_seen(transposed: bool) -> None:
    device = LazyDevice()
    backend = CudaBackend(load_kernels, device, "cpu")
    gradient = torch.zeros(30, 5).t() if transposed else torch.zeros(5, 30)
    for row in (3, 0, 4):
        gradient.zero_()[row, 29] = 1
        measured = backend.measure([gradient], [gradient], (0,), (), sample=row == 4)
        device.finish()
    assert measured.pending is not None
    measured.pending.finish()
    assert measured.samples["dead_rows"].tolist() == [2]


def test_equal_layouts_of_other_parameters_do_not_share_rows() -> None:
    device = LazyDevice()
    backend = CudaBackend(load_kernels, device, "cpu")
    first, second, third = (torch.zeros(2, 3) for _ in range(3))
    backend.measure([first, torch.ones(2, 3), third], [], (0, 1, 3), (), False)
    measured = backend.measure([first, second, third], [first, second, third], (0, 2, 3), (), True)
    device.finish()
    assert measured.pending is not None
    measured.pending.finish()
    assert measured.samples["dead_rows"][1] != 0


def test_a_launch_that_fails_leaves_nothing_to_the_next_one() -> None:
    training = LazyTraining()
    training.step(0, 0, sample=True)
    with (
        mock.patch.object(training.device, "launch", side_effect=RuntimeError("no memory")),
        pytest.raises(RuntimeError, match="no memory"),
    ):
        training.step(0, 0, sample=False)
    training.finish()
    made = training.device.device_memory_made
    training.step(0, 0, sample=False)
    training.finish()
    assert training.device.device_memory_made > made


class OnSecond(Tensor):
    """A tensor of the host that says it is on a second device."""

    device = torch.device("cpu", 1)  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]


@pytest.mark.parametrize("first_done", [0, 1])
@pytest.mark.parametrize("loss_on", [0, 1])
def test_two_devices_bring_their_numbers_each_by_itself(first_done: int, loss_on: int) -> None:
    devices = [LazyDevice(), LazyDevice()]
    exact = ReferenceBackend()
    of_index = {torch.device("cpu"): devices[0], OnSecond.device: devices[1]}
    backend = CudaBackend(load_kernels, of_index.__getitem__, "cpu")
    plain = (*cuda_table.PLAIN_TYPES, OnSecond)
    with (
        mock.patch.object(cuda_table, "PLAIN_TYPES", plain),
        mock.patch.object(freed_memory, "PLAIN_TYPES", plain),
    ):
        for sample in (False, True, False):
            numbers = [torch.randn(2, 3), torch.randn(4), torch.randn(3, 2)]
            gradients = [numbers[0], numbers[1].as_subclass(OnSecond), numbers[2]]
            loss = torch.tensor(3.0)
            scalar = loss.as_subclass(OnSecond) if loss_on else loss
            measured = backend.measure(gradients, gradients, (0, 1, 2), [scalar], sample)
            assert measured.pending is not None
            devices[first_done].finish()
            assert not measured.pending.is_done()
            devices[1 - first_done].finish()
            assert measured.pending.is_done()
            measured.pending.finish()
            expected = exact.measure(numbers, numbers, (0, 1, 2), [loss], sample)
            assert_agrees(measured, expected, numbers)
            assert measured.scalars.tolist() == [3.0]


def test_where_no_kernel_can_be_launched_torch_measures() -> None:
    """As on a machine without a C compiler, which Triton calls at the first launch."""
    training = LazyTraining()
    gradients = [torch.randn(3, 4), torch.randn(2)]
    assert training.backend.name == "cuda"
    with mock.patch.object(
        training.device, "launch", side_effect=RuntimeError("Failed to find C compiler")
    ) as launch:
        for _ in range(2):
            measured = training.backend.measure(gradients, gradients, (0, 1), (), True)
            exact = ReferenceBackend().measure(gradients, gradients, (0, 1), (), True)
            assert_agrees(measured, exact, gradients)
        assert launch.call_count == 1
    assert training.backend.name == "reference"


def test_memory_that_is_missing_once_is_asked_for_again() -> None:
    training = LazyTraining()
    with (
        mock.patch.object(training.device, "memory", side_effect=torch.OutOfMemoryError),
        pytest.raises(torch.OutOfMemoryError),
    ):
        training.step(0, 0, sample=False)
    training.step(0, 0, sample=False)
    training.finish()
    assert training.backend.name == "cuda"


def test_while_a_graph_is_captured_nothing_is_given_to_the_device_and_then_all_goes_on() -> None:
    training = LazyTraining()
    training.step(0, 0, sample=False)
    gradients = [torch.ones(shape) for shape in SHAPES]
    given = len(training.device.current.queue)
    with (
        mock.patch.object(cuda_backend, "is_capturing", return_value=True),
        mock.patch.object(reference, "is_capturing", return_value=True),
    ):
        loss = torch.tensor(1.0)
        measured = training.backend.measure(gradients, gradients, (0, 1, 2), [loss], True)
    assert len(training.device.current.queue) == given
    if measured.pending is not None:
        measured.pending.finish()
    assert np.isnan(measured.values["grad_norm"]).all()
    assert np.isnan(measured.scalars).all()
    # what a replay writes lies where it always does
    for _ in range(3):
        training.step(0, 0, sample=False)
    training.finish()


@settings(max_examples=40)
@example([3, 40], [1, 0, 2], 1, torch.float32, 0.1, 0)  # comes to each row many times
@example([3, 40], [1, 0, 2], 0, torch.bfloat16, 0.1, 1)
@example([5, 90], [0, 1, 2], 3, torch.float16, 0.5, 2)  # rows longer than a piece
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    order=st.permutations(range(3)),
    offset=st.integers(0, 9),
    dtype=st.sampled_from((torch.float32, torch.bfloat16, torch.float16, torch.float64)),
    share=st.sampled_from((0.1, 0.5, 1.0)),
    seed=st.integers(0, 2**16),
)
def test_rows_and_numbers_are_found_wherever_pieces_begin(
    shape: list[int],
    order: list[int],
    offset: int,
    dtype: torch.dtype,
    share: float,
    seed: int,
) -> None:
    """Dense in any order of dimensions, at any address; most numbers and rows zero, or few."""
    generator = torch.Generator().manual_seed(seed)
    order = [each for each in order if each < len(shape)]
    memory = torch.full((offset + math.prod(shape) + 9,), 7.0, dtype=dtype)  # around it, others
    inside = memory[offset : offset + math.prod(shape)]
    inside.copy_(torch.randn(len(inside), generator=generator))
    inside[torch.rand(len(inside), generator=generator) > share] = 0
    tensor = inside.view([shape[each] for each in order]).permute(
        [order.index(each) for each in range(len(shape))]
    )
    tensor[torch.rand(len(tensor), generator=generator) > share] = 0
    device = LazyDevice()
    measured = CudaBackend(load_kernels, device, "cpu").measure([tensor], [tensor], (0,), (), True)
    device.finish()
    assert measured.pending is not None
    measured.pending.finish()
    exact: Any = ReferenceBackend().measure([tensor], [tensor], (0,), (), True)
    assert_agrees(measured, exact, [tensor])
    np.testing.assert_array_equal(measured.samples["dead_rows"], exact.samples["dead_rows"])
