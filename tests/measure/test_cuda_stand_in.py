"""The way from a GPU to the host with tensors that only say that they are on one, and the kernel
built for GPUs that are not here.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from seismograd.measure import transfer
from seismograd.measure.backend import Measurement
from seismograd.measure.backend_selection import cuda_backend
from seismograd.measure.cuda.cuda_backend import CudaBackend
from seismograd.measure.cuda.device_queue import CudaQueue
from seismograd.measure.device_dispatch import DeviceDispatch
from seismograd.measure.reference import ReferenceBackend
from tests.measure.test_cuda import load_kernels, needs_triton
from tests.measure.test_native import assert_agrees


class OnDevice(Tensor):
    """A tensor of the host that says it is on a GPU."""

    is_cuda = True  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]


def on_device(tensor: Tensor) -> Tensor:
    return tensor.as_subclass(OnDevice)


class Pinned(Tensor):
    """Where a copy arrives that must not block."""

    def copy_(self, other: Tensor, non_blocking: bool = False) -> Tensor:
        assert non_blocking
        return super().copy_(other.as_subclass(Pinned))


class Event:
    """A CUDA event that happens when `has_happened` is set, or when somebody waits for it."""

    has_happened = False
    num_recorded = 0
    num_waits = 0

    def record(self, _stream: object) -> None:
        type(self).num_recorded += 1

    def query(self) -> bool:
        return self.has_happened

    def synchronize(self) -> None:
        type(self).num_waits += not self.has_happened


@pytest.fixture
def events() -> Iterator[type[Event]]:
    """CUDA as far as a copy needs it: memory that is not pinned, and events of the test's own."""

    class Events(Event):
        pass

    def empty(*shape: Any, pin_memory: bool, **options: Any) -> Tensor:
        assert pin_memory
        return allocate(*shape, **options).as_subclass(Pinned)

    allocate = torch.empty
    with (
        mock.patch.object(torch.cuda, "Event", Events),
        mock.patch.object(torch.cuda, "current_stream"),
        mock.patch.object(transfer.torch, "empty", empty),
    ):
        yield Events


def test_a_copy_from_a_device_is_awaited_only_when_its_numbers_are_asked_for(
    events: type[Event],
) -> None:
    package = transfer.Package(on_device(torch.arange(3.0)))
    assert not package.is_done()
    assert events.num_waits == 0
    assert package.numbers().tolist() == [0.0, 1.0, 2.0]
    assert events.num_waits == 1
    events.has_happened = True
    assert package.is_done()


def test_while_a_graph_is_captured_no_event_is_asked_for(events: type[Event]) -> None:
    """CUDA forbids it, and the capture would fail."""
    package = transfer.Package(on_device(torch.arange(3.0)))
    event = CudaQueue(torch.device("cpu")).event()
    events.has_happened = True
    with (
        mock.patch.object(torch.cuda, "is_initialized", return_value=True),
        not_capturing(False),
        mock.patch.object(events, "query", side_effect=AssertionError),
    ):
        assert not package.is_done()
        assert not event.has_happened()
    assert package.is_done()
    assert event.has_happened()


@needs_triton
@pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels are not interpreted")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_what_cuda_is_asked_for_gives_the_numbers_without_waiting(events: type[Event]) -> None:
    backend = CudaBackend(load_kernels, CudaQueue, "cpu")
    tensors = [torch.randn(3, 4), torch.full((5,), torch.inf), torch.zeros(2, 2)]
    with mock.patch.object(torch.cuda, "device", nullcontext):
        for sample in (False, True, False):
            measured = backend.measure(tensors, tensors, range(3), [torch.tensor(2.5)], sample)
            assert measured.pending is not None
            assert not measured.pending.is_done()
            assert np.isnan(measured.values["grad_norm"]).all()
            assert events.num_waits == 0
            events.has_happened = True
            measured.pending.finish()
            assert events.num_waits == 0
            events.has_happened = False
            assert_agrees(
                measured,
                ReferenceBackend().measure(tensors, tensors, range(3), (), sample),
                tensors,
            )
            assert measured.scalars.tolist() == [2.5]


def test_without_triton_torch_measures_on_the_device_and_nobody_waits(events: type[Event]) -> None:
    with mock.patch.object(importlib.util, "find_spec", return_value=None):
        backend = cuda_backend()
    tensors = [torch.randn(3, 4), torch.full((5,), torch.inf), torch.zeros(2, 2)]
    loss, concatenate = torch.tensor(2.5), torch.cat

    def on_device_together(parts: list[Tensor]) -> Tensor:
        return on_device(concatenate(parts))

    with mock.patch.object(transfer.torch, "cat", on_device_together):  # of what is sent
        measured = backend.measure(tensors, tensors, range(3), [loss], True)
    assert measured.pending is not None
    assert not measured.pending.is_done()
    assert np.isnan(measured.values["grad_norm"]).all()
    assert np.isnan(measured.samples["exponents"]).all()
    assert events.num_waits == 0
    events.has_happened = True
    assert measured.pending.is_done()
    measured.pending.finish()
    measured.pending.finish()  # has nothing left to do
    assert events.num_waits == 0
    assert events.num_recorded == 1  # one copy, however many tensors there are
    assert_agrees(
        measured, ReferenceBackend().measure(tensors, tensors, range(3), (), True), tensors
    )
    assert measured.scalars.tolist() == [2.5]


class Noting:
    """A backend that notes what it was handed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.keys: list[int] = []
        self.num_scalars = 0
        self._exact = ReferenceBackend()

    def measure(
        self, gradients: Any, weights: Any, keys: Any, scalars: Any, sample: bool
    ) -> Measurement:
        self.keys += keys
        self.num_scalars += len(scalars)
        return self._exact.measure(gradients, weights, keys, scalars, sample)


def test_each_tensor_goes_to_the_backend_of_its_device_and_its_numbers_to_its_place() -> None:
    host, device = Noting("host"), Noting("device")
    tensors = [
        on_device(torch.full((2,), float(n))) if n % 3 else torch.full((2,), float(n))
        for n in range(5)
    ]
    backend = DeviceDispatch(host, device)
    with mock.patch.object(torch.cuda, "is_initialized", return_value=True), not_capturing():
        assert backend.name == "host+device"
        measured = backend.measure(
            tensors, tensors, range(10, 15), [on_device(torch.tensor(7.0))], True
        )
        assert (host.keys, device.keys, host.num_scalars, device.num_scalars) == (
            [10, 13],
            [11, 12, 14],
            0,
            1,
        )
        assert measured.values["grad_sum"].tolist() == [0.0, 2.0, 4.0, 6.0, 8.0]
        assert measured.samples["weight_norm"].tolist() == pytest.approx(
            [2**0.5 * n for n in range(5)]
        )
        assert measured.scalars.tolist() == [7.0]
        backend.measure(tensors[1:3], tensors[1:3], [11, 12], (), False)
        backend.measure(tensors[:1], tensors[:1], [10], (), False)
    assert (host.keys, device.keys) == ([10, 13, 10], [11, 12, 14, 11, 12])


def test_nothing_is_read_while_a_graph_is_captured() -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError

    tensors = [torch.ones(4)]
    with (
        mock.patch.object(torch.cuda, "is_initialized", return_value=True),
        not_capturing(False),
        mock.patch.object(torch, "cat", never),
    ):
        measured = cuda_backend().measure(tensors, tensors, [0], [torch.tensor(1.0)], True)
    if measured.pending is not None:
        measured.pending.finish()
    assert np.isnan(measured.values["grad_norm"]).all()
    assert np.isnan(measured.scalars).all()


def not_capturing(is_so: bool = True) -> Any:
    return mock.patch.object(torch.cuda, "is_current_stream_capturing", return_value=not is_so)


COMPILE = """
    import sys
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile
    from seismograd.measure.cuda.cuda_table import BLOCK
    from seismograd.measure.cuda.triton_kernel import measure_pieces, merge_pieces

    target = GPUTarget("cuda", int(sys.argv[1]), 32)
    at_multiples = [["tt.divisibility", 16]]  # as torch allocates
    for kernel, arguments, constants in (
        (
            measure_pieces,
            {"pieces": "*i64", "pointers": "*i64", "flags": "*u8", "numbers": "*fp64", "counts": "*i32"},
            {"DOUBLES": True, "COUNTING": True, "BLOCK": BLOCK},
        ),
        (
            measure_pieces,
            {"pieces": "*i64", "pointers": "*i64", "flags": "*u8", "numbers": "*fp64", "counts": "*i32"},
            {"DOUBLES": False, "COUNTING": False, "BLOCK": BLOCK},
        ),
        (
            merge_pieces,
            {
                "tensors": "*i64", "numbers": "*fp64", "counts": "*i32", "flags": "*u8",
                "into": "*fp64", "dead_rows": "*fp64", "exponents": "*fp64",
            },
            {"SAMPLED": True, "BLOCK": BLOCK},
        ),
    ):
        source = ASTSource(
            kernel,
            {**arguments, **dict.fromkeys(constants, "constexpr")},
            constants,
            {(place,): at_multiples for place in range(len(arguments))},
        )
        compiled = compile(source, target=target, options={"enable_fp_fusion": True})
        assert compiled.asm["cubin"]
        ptx = compiled.asm["ptx"]
        assert ".ftz" not in ptx, "denormals would be flushed"
        assert ".local" not in ptx, "registers would be spilled"
        assert "rem.s64" not in ptx and "div.s64" not in ptx, "these take dozens of instructions"
        if kernel is measure_pieces:
            assert "ld.global.v4.b32" in ptx, "scalars would be read one by one"
"""


@needs_triton
@pytest.mark.skipif(sys.platform != "linux", reason="Triton compiles on Linux")
@pytest.mark.parametrize("capability", [pytest.param(70, marks=pytest.mark.extended), 90])
def test_the_kernel_compiles_for_gpus_that_are_not_here(capability: int, tmp_path: Any) -> None:
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    command = [
        sys.executable,
        "-W",
        "error::UserWarning",
        "-c",
        textwrap.dedent(COMPILE),
        str(capability),
    ]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
