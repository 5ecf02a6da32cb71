"""Memory that is not there is never read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from seismograd.capture.birth.graph_stage import birth_in_graph
from seismograd.capture.birth.nonfinite_weight import weight_in_graph
from seismograd.capture.loop.clearing_tracker import is_zero
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.probes.per_loss_gradients import GradientSnapshot
from seismograd.capture.probes.update_probe import UpdateProbe
from seismograd.capture.rows.requested_elements import RequestedElements
from seismograd.distributed.local_gradients import PreReductionProbe
from seismograd.distributed.weight_checksum import WeightChecksum
from seismograd.measure.backend_selection import make_backend
from seismograd.measure.finite import all_finite
from seismograd.measure.reference import ReferenceBackend
from seismograd.settings.elements import ElementSpec
from seismograd.tensors.device_scalars import Scalar
from seismograd.tensors.freed_memory import is_readable

# scalars: what is freed of so many goes back to the system, and reading it is a SIGSEGV
SIZE = 1 << 22


def freed(tensor: Tensor) -> Tensor:
    tensor.untyped_storage().resize_(0)
    return tensor


def shrunk(tensor: Tensor) -> Tensor:
    tensor.untyped_storage().resize_(64)
    return tensor


def fake(tensor: Tensor) -> Tensor:
    with FakeTensorMode() as mode:
        return mode.from_tensor(tensor)


class Wrapping(Tensor):
    """A subclass that has no memory of its own."""

    @staticmethod
    def __new__(cls, inner: Tensor) -> Any:
        made = Tensor._make_wrapper_subclass(cls, inner.shape)  # type: ignore[attr-defined]
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inner = (arg.inner if isinstance(arg, Wrapping) else arg for arg in args)
        return (
            cls(func(*inner, **(kwargs or {})))
            if func is torch.ops.aten.detach.default
            else func(*inner, **(kwargs or {}))
        )


GONE: dict[str, Callable[[], Tensor]] = {
    "a storage resized to nothing": lambda: freed(torch.randn(SIZE)),
    "a storage made smaller": lambda: shrunk(torch.randn(SIZE)),
    "a view of a storage made smaller": lambda: _second_row_of_shrunk(torch.randn(2, SIZE)),
    "on meta": lambda: torch.empty(8, device="meta"),
    "fake": lambda: fake(torch.randn(8)),
    "functional": lambda: torch._to_functional_tensor(torch.randn(8)),
    "swapped for one without memory": lambda: _swapped(torch.randn(8), freed(torch.randn(SIZE))),
    "a subclass around one without memory": lambda: Wrapping(freed(torch.randn(SIZE))),
    "sparse, its values freed": lambda: freed_values(torch.eye(4).to_sparse()),
}


def _swapped(tensor: Tensor, other: Tensor) -> Tensor:
    tensor.data = other
    return tensor


def _second_row_of_shrunk(rows: Tensor) -> Tensor:
    second = rows[1]
    shrunk(rows)
    return second


def freed_values(sparse: Tensor) -> Tensor:
    freed(sparse._values())
    return sparse


@pytest.mark.parametrize("make", GONE.values(), ids=GONE)
def test_what_has_no_memory_is_not_readable(make: Callable[[], Tensor]) -> None:
    assert not is_readable(make())


def test_what_has_memory_is_readable() -> None:
    whole = torch.arange(12.0)
    swapped = nn.Parameter(torch.zeros(2))
    swapped.data = torch.ones(SIZE)
    there = [
        whole,
        whole[3:],
        whole[::5],
        whole.view(3, 4).T,
        torch.zeros(0),
        swapped,
        Wrapping(whole),
        torch.eye(3).to_sparse(),
    ]
    assert all(map(is_readable, there))
    assert is_readable(torch.ones(3).expand(1000, 3)), "a view may be larger than its storage"


def test_a_result_of_a_collective_is_readable_though_it_keeps_its_tensor_in_a_slot() -> None:
    collectives = pytest.importorskip("torch.distributed._functional_collectives")
    kept = torch.ones(3)
    result = collectives.AsyncCollectiveTensor(kept)
    assert is_readable(result)
    kept.untyped_storage().resize_(0)
    assert not is_readable(result)


def test_inside_of_functorch_nothing_is_readable() -> None:
    seen: list[bool] = []
    torch.vmap(lambda row: (seen.append(is_readable(row)), row.sum())[1])(torch.randn(2, 3))
    assert seen == [False]


@pytest.mark.parametrize("make", GONE.values(), ids=GONE)
def test_nothing_that_reads_reads_it(make: Callable[[], Tensor]) -> None:
    gone = make().detach()
    parameter = nn.Parameter(torch.zeros(8))
    weight = nn.Parameter(gone, requires_grad=False)
    for backend in (make_backend(), ReferenceBackend()):
        measured = backend.measure(
            [torch.ones(3), gone], [torch.ones(3), gone], (0, 1), [torch.ones(())], True
        )
        assert measured.values["nonfinite"][0] == 0
        assert torch.isnan(torch.tensor(float(measured.values["nonfinite"][1])))
    assert not all_finite([gone])
    checksum = WeightChecksum()
    checksum.add([0], [gone])
    assert checksum.value() == 0
    assert RequestedElements([ElementSpec("w", (0,))], lambda _: None).pick({"w": gone}) == []
    before = PreReductionProbe()
    before._look(gone)
    assert before.take() is None
    if (
        gone.shape == parameter.shape
        and gone.dtype == parameter.dtype
        and gone.device == parameter.device
        and type(gone) is Tensor
    ):
        parameter.grad = gone
        assert not is_zero(parameter)
        assert GradientSnapshot.of(parameter).copy is None
    probe = UpdateProbe()
    probe.step_begins([weight], True, 1)
    assert probe.step_ends(ParameterTable(), None) is not None


def test_a_table_is_looked_at_again_when_a_storage_has_shrunk() -> None:
    backend, gradient = make_backend(), torch.ones(SIZE)
    keys = (0,)
    for _ in range(2):
        assert backend.measure([gradient], [gradient], keys, (), False).values["grad_max"][0] == 1
    shrunk(gradient)
    assert torch.isnan(
        torch.tensor(
            float(backend.measure([gradient], [gradient], keys, (), False).values["grad_max"][0])
        )
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_weight_that_is_freed_or_replaced_in_its_step_is_not_compared(dtype: torch.dtype) -> None:
    kept = [nn.Parameter(torch.ones(SIZE, dtype=dtype)) for _ in range(3)]
    turned = nn.Parameter(torch.ones(64, 64, dtype=dtype).T)  # not contiguous: compared by torch
    for parameter in (*kept, turned):
        parameter.grad = torch.ones_like(parameter)
    parameter_table = ParameterTable()
    probe = UpdateProbe()
    probe.step_begins([*kept, turned], False, 4)
    freed(kept[0].data)
    kept[1].data = torch.ones(3, dtype=dtype)
    shrunk(turned.data)
    probed = probe.step_ends(parameter_table, None)
    assert probed is not None
    assert torch.isnan(torch.from_numpy(probed.settled())).all()


def test_the_origin_of_a_loss_is_looked_for_where_there_is_memory() -> None:
    weight = nn.Parameter(torch.full((SIZE,), torch.nan))
    loss = (weight * 2).sum()
    assert weight_in_graph(loss.grad_fn) is weight
    freed(weight.data)
    assert weight_in_graph(loss.grad_fn) is None


def test_what_was_saved_and_freed_is_not_read() -> None:
    weight, inputs = nn.Parameter(torch.ones(SIZE)), torch.full((SIZE,), torch.inf)
    loss = (weight * inputs).sum()
    found = birth_in_graph(loss.grad_fn)
    assert found is not None
    assert found.operand == "other"
    freed(inputs)
    assert birth_in_graph(loss.grad_fn) is None


def test_what_was_offloaded_stays_where_it_is() -> None:
    unpacked: list[Tensor] = []
    weight, inputs = nn.Parameter(torch.ones(8)), torch.full((8,), torch.inf)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: t.clone(), lambda t: (unpacked.append(t), t)[1]
    ):
        loss = (weight * inputs).sum()
    weight_in_graph(loss.grad_fn)
    birth_in_graph(loss.grad_fn)
    assert not unpacked


def test_a_number_without_memory_is_not_known() -> None:
    assert not Scalar(freed(torch.ones(1))).known
