"""Measuring changes nothing, is seen by nothing and costs one transfer per device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate, init_device_mesh

from seismograd.measure import transfer
from seismograd.measure.backend import Measurement
from seismograd.measure.reference import ReferenceBackend
from seismograd.measure.statistics.formula import CHUNK
from tests.measure.onlookers import Loud, onlookers


def some_gradients() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    dense = [
        torch.randn(shape, generator=generator) for shape in ((8, 5), (8, 5), (5,), (2, 3, 4, 4))
    ]
    sparse = torch.sparse_coo_tensor(
        torch.tensor([[1, 1, 3]]),
        torch.randn(3, 2, generator=generator),
        (5, 2),
        check_invariants=True,
    )
    return [
        *dense,
        sparse,
        dense[0].double(),
        dense[0].bfloat16(),
        torch.randn(4, dtype=torch.complex64, generator=generator),
    ]


def measure(gradients: list[Tensor], sample: bool = True) -> Measurement:
    return ReferenceBackend().measure(
        gradients, gradients, range(len(gradients)), [torch.tensor(1.5)], sample
    )


def assert_same(first: Measurement, second: Measurement) -> None:
    for name, numbers in {**first.values, **first.samples}.items():
        assert np.array_equal(numbers, {**second.values, **second.samples}[name], equal_nan=True), (
            name
        )


@contextmanager
def default_dtype_float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic_algorithms() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    "surroundings",
    [
        default_dtype_float64,
        deterministic_algorithms,
        lambda: torch.device("meta"),
        lambda: torch.autocast("cpu", torch.bfloat16),
        torch.inference_mode,
        torch.enable_grad,
        lambda: torch.autograd.set_detect_anomaly(True, check_nan=True),
    ],
)
@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
def test_numbers_are_the_same_in_any_surroundings(
    surroundings: Callable[[], AbstractContextManager[Any]],
) -> None:
    gradients = some_gradients()
    expected = measure(gradients)
    with surroundings():
        assert_same(measure(gradients), expected)


def test_no_mode_and_no_subclass_sees_a_call() -> None:
    gradients = [*some_gradients(), torch.ones(3, 3).as_subclass(Loud)]
    backend = ReferenceBackend()
    with onlookers() as seen:
        backend.measure(gradients, gradients, range(len(gradients)), gradients[-1:], sample=True)
    assert seen == []


def test_inputs_and_random_state_are_untouched() -> None:
    gradients = some_gradients()
    weights = [torch.nn.Parameter(gradient.to_dense().clone()) for gradient in gradients]
    loss = (weights[0] * 2).sum()
    before = [(tensor._version, tensor.to_dense().clone()) for tensor in (*gradients, *weights)]
    was_coalesced = [gradient.is_coalesced() for gradient in gradients if gradient.is_sparse]
    random_state = torch.get_rng_state()
    ReferenceBackend().measure(gradients, weights, range(len(gradients)), [loss], sample=True)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [
        gradient.is_coalesced() for gradient in gradients if gradient.is_sparse
    ] == was_coalesced
    assert torch.is_grad_enabled()
    for tensor, (version, values) in zip((*gradients, *weights), before, strict=True):
        assert tensor._version == version
        assert torch.equal(tensor.to_dense(), values)
    loss.backward()  # the graph is whole
    assert weights[0].grad is not None


@pytest.mark.parametrize("sample", [False, True])
def test_one_transfer_brings_everything(sample: bool) -> None:
    gradients = some_gradients()
    with (
        mock.patch.object(transfer, "Package", wraps=transfer.Package) as to_host,
        torch.profiler.profile() as profile,
    ):
        measure(gradients, sample)
    assert to_host.call_count == 1
    # `.item()` and its like
    assert "aten::_local_scalar_dense" not in {event.key for event in profile.key_averages()}


def test_a_large_gradient_is_not_copied_whole() -> None:
    gradients = [torch.randn(12, CHUNK), torch.randn(CHUNK, 12).t()]
    with torch.profiler.profile(profile_memory=True) as profile:
        measure(gradients)
    largest = max(event.self_cpu_memory_usage for event in profile.events() or [])
    assert CHUNK * 8 <= largest <= 2 * CHUNK * 8


def test_a_distributed_tensor_is_measured_where_it_lies() -> None:
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    try:
        mesh = init_device_mesh("cpu", (1,))
        gradient = DTensor.from_local(torch.full((3, 4), 2.0), mesh, [Replicate()])
        assert measure([gradient]).values["grad_norm"][0] == pytest.approx(2 * np.sqrt(12))
    finally:
        torch.distributed.destroy_process_group()


def test_nothing_is_read_while_a_cuda_graph_is_captured() -> None:
    gradients = some_gradients()
    with (
        mock.patch.object(torch.cuda, "is_initialized", return_value=True),
        mock.patch.object(torch.cuda, "is_current_stream_capturing", return_value=True),
        mock.patch.object(transfer, "Package", wraps=transfer.Package) as to_host,
    ):
        measured = measure(gradients)
    assert to_host.call_count == 0
    assert all(
        np.isnan(numbers).all()
        for numbers in (*measured.values.values(), *measured.samples.values(), measured.scalars)
    )
