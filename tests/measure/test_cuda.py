"""The kernel for CUDA gives what the reference gives: on a GPU where there is one, else in
Triton's interpreter, on the CPU.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seismograd.capture.hub import HUB
from seismograd.measure.backend import Measurement, MeasuringBackend
from seismograd.measure.cuda.cuda_backend import CudaBackend
from seismograd.measure.cuda.device_queue import CudaQueue, InterpreterQueue
from seismograd.measure.device_dispatch import DeviceDispatch
from seismograd.measure.merged_measurements import merge_measurements
from seismograd.measure.reference import ReferenceBackend
from seismograd.schema import Note
from tests.capture.sessions import make_session
from tests.measure.tensors import REAL_DTYPES, strided
from tests.measure.test_native import assert_agrees
from tests.single_rows import RowList

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental"),
    # the interpreter computes with NumPy
    pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning"),
]
HAS_GPU = torch.cuda.is_available()
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed: pip install triton"
)


def device() -> str:
    return "cuda" if HAS_GPU else "cpu"


def cuda_backend() -> CudaBackend:
    """On a GPU, or in the interpreter: conftest.py says which."""
    return CudaBackend(load_kernels, CudaQueue if HAS_GPU else InterpreterQueue, device())


def load_kernels() -> Any:
    return importlib.import_module("seismograd.measure.cuda.triton_kernel")


def measure(
    backend: MeasuringBackend, tensors: list[Tensor], sample: bool = True, keys: range | None = None
) -> Measurement:
    measured = backend.measure(tensors, tensors, list(keys or range(len(tensors))), (), sample)
    if measured.pending is not None:
        measured.pending.finish()
        assert measured.pending.is_done()
    return measured


@needs_triton
@settings(max_examples=15)
@given(tensors=st.lists(strided(REAL_DTYPES), min_size=1, max_size=3), sample=st.booleans())
def test_tensors_of_every_kind(tensors: list[Tensor], sample: bool) -> None:
    tensors = [tensor.to(device()) for tensor in tensors]
    assert_agrees(
        measure(cuda_backend(), tensors, sample),
        measure(ReferenceBackend(), tensors, sample),
        tensors,
    )


@needs_triton
@pytest.mark.parametrize("dtype", REAL_DTYPES)
def test_tensors_of_several_pieces(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    numbers = (torch.randn(70, 1000, generator=generator) * 1e-3).to(dtype)
    numbers[3:9] = 0
    numbers[20, 5] = math.inf
    tensors = [numbers.to(device()), numbers[:40].t().to(device())]
    assert_agrees(
        measure(cuda_backend(), tensors),
        measure(ReferenceBackend(), tensors),
        tensors,
    )


@needs_triton
@pytest.mark.parametrize("value", [1e200, 1e-200, 5e-324, 1.7e308])
def test_a_norm_neither_overflows_nor_underflows(value: float) -> None:
    tensor = torch.full((1,), value, dtype=torch.float64, device=device())
    assert measure(cuda_backend(), [tensor]).values["grad_norm"][0] == pytest.approx(
        value, rel=1e-12, abs=0
    )


@needs_triton
@pytest.mark.parametrize(
    "infinities", [(math.inf,), (-math.inf,), (math.inf, -math.inf), (-math.inf, math.nan), ()]
)
def test_a_float64_sum_is_infinite_only_where_a_number_is(infinities: tuple[float, ...]) -> None:
    tensor = torch.tensor([1.7e308] * 4001 + [-1.7e308] * 4000, dtype=torch.float64)
    tensor[2000 : 2000 + len(infinities)] = torch.tensor(infinities, dtype=torch.float64)
    found = measure(cuda_backend(), [tensor.to(device())]).values["grad_sum"][0]
    assert found == pytest.approx(sum(infinities) if infinities else 1.7e308, nan_ok=True)


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_finite_number_of_sixteen_bits_is_read_as_it_is(dtype: torch.dtype) -> None:
    numbers = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype)
    numbers = numbers[numbers.isfinite()].to(device())
    tensors = [numbers, numbers[numbers.abs() < torch.finfo(dtype).tiny]]
    assert_agrees(
        measure(cuda_backend(), tensors),
        measure(ReferenceBackend(), tensors),
        tensors,
    )


@needs_triton
def test_rows_are_remembered_between_samples_and_not_known_where_they_were_forgotten() -> None:
    backend = cuda_backend()
    first, second = torch.zeros(4, 3, device=device()), torch.zeros(4, 3, device=device())
    first[0, 1], second[2] = 1, math.nan
    measure(backend, [first], sample=False)
    assert measure(backend, [second]).samples["dead_rows"].tolist() == [2]
    measure(backend, [first], sample=False)
    # lies otherwise: another table
    measure(backend, [first.clone().t().contiguous().t()], sample=False)
    assert math.isnan(measure(backend, [first]).samples["dead_rows"][0])
    assert measure(backend, [first]).samples["dead_rows"].tolist() == [3]


@needs_triton
def test_what_the_kernel_cannot_read_comes_beside_it_and_scalars_come_along() -> None:
    tensors = [torch.ones(2, 2), torch.eye(3).to_sparse(), torch.ones(3, dtype=torch.complex64)]
    tensors = [tensor.to(device()) for tensor in tensors]
    scalars = [torch.tensor(2.5, device=device())]
    measured = cuda_backend().measure(tensors, tensors, [0, 1, 2], scalars, True)
    if measured.pending is not None:
        measured.pending.finish()
    assert measured.values["grad_norm"].tolist() == pytest.approx([2.0, math.sqrt(3), math.sqrt(3)])
    assert measured.samples["weight_norm"].tolist() == pytest.approx(
        [2.0, math.sqrt(3), math.sqrt(3)]
    )
    assert measured.scalars.tolist() == [2.5]


class Late:
    """A backend whose numbers come only when they are asked for, or when `arrived` is set."""

    name = "late"

    def __init__(self) -> None:
        self.arrived = False
        self.waited = 0

    def measure(
        self, gradients: Any, weights: Any, keys: Any, scalars: Any, sample: bool
    ) -> Measurement:
        exact = ReferenceBackend().measure(gradients, weights, keys, scalars, sample)
        blank = Measurement(
            {name: np.full_like(v, np.nan) for name, v in exact.values.items()},
            {name: np.full_like(v, np.nan) for name, v in exact.samples.items()},
            np.full_like(exact.scalars, np.nan),
        )
        late = self

        class Pending:
            def is_done(self) -> bool:
                return late.arrived

            def finish(self) -> None:
                late.waited += not late.arrived
                for mine, theirs in ((blank.values, exact.values), (blank.samples, exact.samples)):
                    for name in mine:
                        mine[name][:] = theirs[name]
                blank.scalars[:] = exact.scalars

        return Measurement(blank.values, blank.samples, blank.scalars, Pending())


def train(
    backend: MeasuringBackend, num_steps: int, after_step: Any = lambda _: None
) -> tuple[RowList, list[int]]:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rows, notes, num_rows = RowList(), list[Note](), list[int]()
    session = make_session(backend, rows.take, notes.append, [model], [optimizer])
    HUB.attach(session)
    try:
        for number in range(num_steps):
            optimizer.zero_grad()
            model(torch.ones(4, 3)).square().mean().backward()
            optimizer.step()
            after_step(number)
            num_rows.append(len(rows))
    finally:
        HUB.detach(session)
        session.finish()
    assert session.guard.failures == {}, notes
    return rows, num_rows


def test_no_step_waits_for_numbers_and_rows_come_in_order_when_they_have_come() -> None:
    backend = Late()

    def arrive(number: int) -> None:
        backend.arrived = number == 7

    rows, num_rows = train(backend, 12, arrive)
    assert num_rows[:8] == [0] * 8
    assert num_rows[8] >= 8
    assert backend.waited > 0  # at the end, and only there
    expected, _ = train(ReferenceBackend(), 12)
    for row, exact in zip(rows, expected, strict=True):
        assert row.step["iteration"] == exact.step["iteration"]
        np.testing.assert_array_equal(row.state, exact.state)
        for name, value in exact.values.items():
            np.testing.assert_array_equal(row.values[name], value, name)
        assert row.step["grad_norm"] == exact.step["grad_norm"]


@needs_triton
@pytest.mark.skipif(HAS_GPU, reason="there is a GPU, and this training is on the CPU")
def test_a_training_has_the_rows_that_the_reference_gives_it() -> None:
    rows, _ = train(cuda_backend(), 12)
    expected, _ = train(ReferenceBackend(), 12)
    for row, exact in zip(rows, expected, strict=True):
        assert row.values.keys() == exact.values.keys()
        for name, value in exact.values.items():
            np.testing.assert_allclose(row.values[name], value, rtol=1e-6, atol=1e-7, err_msg=name)
        assert row.step["grad_norm"] == pytest.approx(exact.step["grad_norm"], rel=1e-6)


def test_parts_of_several_backends_are_put_together_when_all_have_come() -> None:
    late = Late()
    tensors = [torch.full((2, 2), float(i)) for i in range(4)]
    parts = [
        (
            [1, 3],
            late.measure(
                [tensors[1], tensors[3]],
                [tensors[1], tensors[3]],
                [1, 3],
                [torch.tensor(7.0)],
                True,
            ),
        ),
        (
            [0, 2],
            ReferenceBackend().measure(
                [tensors[0], tensors[2]], [tensors[0], tensors[2]], [0, 2], (), True
            ),
        ),
    ]
    whole = merge_measurements(4, parts, parts[0][1])
    assert whole.pending is not None
    assert np.isnan(whole.values["grad_norm"]).all()
    late.arrived = True
    assert whole.pending.is_done()
    whole.pending.finish()
    assert whole.values["grad_norm"].tolist() == [0.0, 2.0, 4.0, 6.0]
    assert whole.samples["exponents"].shape == (4, 64)
    assert whole.scalars.tolist() == [7.0]


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
def test_without_a_gpu_in_use_everything_goes_to_the_host() -> None:
    class Never:
        name = "never"

        def measure(self, *_: object) -> Measurement:
            raise AssertionError

    backend = DeviceDispatch(ReferenceBackend(), Never())
    assert backend.name == "reference"
    assert measure(backend, [torch.ones(4)]).values["grad_norm"].tolist() == [2.0]


@needs_triton
@pytest.mark.skipif(not HAS_GPU, reason="there is no GPU")
def test_no_step_on_a_gpu_synchronises() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(300, 200).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    session = make_session(
        DeviceDispatch(
            ReferenceBackend(),
            CudaBackend(load_kernels),
        ),
        lambda _: None,
        print,
    )
    inputs = torch.ones(4, 300, device="cuda")
    HUB.attach(session)
    try:
        for number in range(30):
            torch.cuda.set_sync_debug_mode("error" if number > 2 else "default")
            optimizer.zero_grad()
            model(inputs).square().mean().backward()
            optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
        HUB.detach(session)
        session.finish()
    assert session.guard.failures == {}
