"""The kernel gives what the reference gives, with every set of instructions that this machine
has.
"""

from __future__ import annotations

import gc
import math
import os
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from seismograd.measure import backend_selection
from seismograd.measure.backend import Measurement, MeasuringBackend
from seismograd.measure.native import native_backend
from seismograd.measure.native.library import INSTRUCTION_SETS, load
from seismograd.measure.native.native_backend import NativeBackend
from seismograd.measure.reference import OF_GRADIENTS_EVERY_TIME, ReferenceBackend
from tests.measure.onlookers import Loud, onlookers
from tests.measure.tensors import REAL_DTYPES, channels_last, sparse, strided, transposed

LIBRARY = load()
pytestmark = [
    pytest.mark.skipif(LIBRARY is None, reason="the kernel was not built: pip install -e ."),
    pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental"),
]
SETS = [
    name
    for number, name in enumerate(INSTRUCTION_SETS)
    if LIBRARY is not None and LIBRARY.seismograd_has(number)
]
every_set = pytest.mark.parametrize("instruction_set", SETS)

# Vectors, chains, blocks and pieces of every instruction set: what is next to these is where
# mistakes are.
BOUNDARIES = (0, 4, 8, 16, 32, 64, 256, 512, 1024, 1792, 3584, 7168, 64 * 3584)
TOLERANCE = 1e-6


def native(instruction_set: str | None = None) -> NativeBackend:
    assert LIBRARY is not None
    return NativeBackend(LIBRARY, instruction_set)


def measure(backend: MeasuringBackend, tensors: list[Tensor], sample: bool = True) -> Measurement:
    return backend.measure(tensors, tensors, range(len(tensors)), (), sample)


def assert_agrees(measured: Measurement, expected: Measurement, gradients: list[Tensor]) -> None:
    """Counts and the largest exactly, norms to `TOLERANCE`, sums to `TOLERANCE` of the sum of
    magnitudes: cancelling leaves less of it.
    """
    assert measured.values.keys() == {formula.name for formula in OF_GRADIENTS_EVERY_TIME}
    assert measured.samples.keys() == expected.samples.keys()
    mine, theirs = ({**m.values, **m.samples} for m in (measured, expected))
    for name in mine.keys() - {"grad_norm", "weight_norm", "grad_sum"}:
        np.testing.assert_array_equal(mine[name], theirs[name], name)
    for name in mine.keys() & {"grad_norm", "weight_norm"}:
        np.testing.assert_allclose(mine[name], theirs[name], rtol=TOLERANCE, atol=0, err_msg=name)
    for i, gradient in enumerate(gradients):
        size = magnitude(gradient)
        if size == math.inf:
            continue  # the order of the sum decides whether and when it overflows
        slack = TOLERANCE * size if expected.values["nonfinite"][i] == 0 else 0.0
        assert mine["grad_sum"][i] == pytest.approx(
            theirs["grad_sum"][i], rel=0, abs=slack, nan_ok=True
        )


def magnitude(tensor: Tensor) -> float:
    """The sum of the magnitudes of its finite numbers."""
    dense = tensor.to_dense().resolve_conj().resolve_neg()
    numbers = (torch.view_as_real(dense) if dense.is_complex() else dense).double().abs()
    return float(numbers[numbers.isfinite()].sum())


@st.composite
def large(draw: st.DrawFn) -> Tensor:
    """A vector of a length next to a boundary, of numbers as gradients have them or as nobody
    has them.
    """
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    count = max(0, draw(st.sampled_from(BOUNDARIES)) + draw(st.integers(-2, 2)))
    numbers = torch.randn(count, generator=generator, dtype=torch.float64)
    numbers *= 2.0 ** draw(
        st.sampled_from([-1040, -600, -140, -70, -45, -20, -8, 0, 10, 50, 62, 100, 500, 1000])
    )
    spread = draw(st.sampled_from([0, 1, 4, 20]))  # decades of binary exponents
    numbers *= torch.exp2(spread * torch.randn(count, generator=generator, dtype=torch.float64))
    share_of_zeros = draw(st.sampled_from([0.0, 0.0, 0.001, 0.5, 1.0]))
    numbers[torch.rand(count, generator=generator) < share_of_zeros] = draw(
        st.sampled_from([0.0, -0.0])
    )
    for _ in range(draw(st.integers(0, 3)) if count else 0):
        numbers[draw(st.integers(0, count - 1))] = draw(
            st.sampled_from([math.nan, math.inf, -math.inf, 5e-324, 1e-45, 1e-7, 1e200, -3e38])
        )
    return numbers.to(draw(st.sampled_from(REAL_DTYPES)))


@every_set
@given(tensors=st.lists(strided() | sparse(), max_size=4), sample=st.booleans())
def test_tensors_of_every_kind(instruction_set: str, tensors: list[Tensor], sample: bool) -> None:
    assert_agrees(
        measure(native(instruction_set), tensors, sample),
        measure(ReferenceBackend(), tensors, sample),
        tensors,
    )


@every_set
@given(tensor=large(), sample=st.booleans(), offset=st.integers(0, 1))
def test_large_tensors_wherever_they_begin(
    instruction_set: str, tensor: Tensor, sample: bool, offset: int
) -> None:
    tensor = torch.cat([torch.full((offset,), math.nan, dtype=tensor.dtype), tensor])[offset:]
    assert_agrees(
        measure(native(instruction_set), [tensor], sample),
        measure(ReferenceBackend(), [tensor], sample),
        [tensor],
    )


@every_set
@pytest.mark.parametrize(
    ("value", "dtype", "count"),
    [
        (100.0, torch.float16, 10**6),
        (3e19, torch.float32, 4),
        (1e-30, torch.float32, 4),
        (1e-45, torch.float32, 10**4),
        (3e38, torch.float32, 10**4),
        (6e-8, torch.float16, 10**4),
        (1e-40, torch.bfloat16, 10**4),
        (1e200, torch.float64, 4),
        (1e-200, torch.float64, 4),
        (5e-324, torch.float64, 4),
        (1.7e308, torch.float64, 1),
    ],
)
def test_a_norm_neither_overflows_nor_underflows(
    instruction_set: str, value: float, dtype: torch.dtype, count: int
) -> None:
    gradient = torch.full((count,), value, dtype=torch.float64).to(dtype)
    expected = float(gradient[0]) * math.sqrt(count)
    assert measure(native(instruction_set), [gradient]).values["grad_norm"][0] == pytest.approx(
        expected, rel=1e-12, abs=0
    )


@every_set
@pytest.mark.parametrize(
    "infinities", [(math.inf,), (-math.inf,), (math.inf, -math.inf), (-math.inf, math.nan), ()]
)
def test_a_float64_sum_is_infinite_only_where_a_number_is(
    instruction_set: str, infinities: tuple[float, ...]
) -> None:
    gradient = torch.tensor([1.7e308] * 4001 + [-1.7e308] * 4000, dtype=torch.float64)
    for positions in ([0, 1], [3999, 2000], [8000, 5000]):
        changed = gradient.clone()
        changed[positions[: len(infinities)]] = torch.tensor(infinities, dtype=torch.float64)
        found = measure(native(instruction_set), [changed]).values["grad_sum"][0]
        assert found == pytest.approx(
            sum(infinities) if infinities else 1.7e308, rel=TOLERANCE, nan_ok=True
        )


@every_set
@given(value=st.floats(1e-3, 1e3), count=st.integers(1, 20_000))
def test_the_rounding_of_equal_numbers_does_not_add_up(
    instruction_set: str, value: float, count: int
) -> None:
    gradient = torch.full((count,), value)
    measured = measure(native(instruction_set), [gradient])
    assert measured.values["grad_norm"][0] == pytest.approx(
        float(gradient[0]) * math.sqrt(count), rel=TOLERANCE, abs=0
    )
    assert measured.values["grad_sum"][0] == pytest.approx(
        float(gradient[0]) * count, rel=TOLERANCE, abs=0
    )


@every_set
@pytest.mark.parametrize("dtype", REAL_DTYPES)
def test_float64_sums_keep_their_digits(instruction_set: str, dtype: torch.dtype) -> None:
    gradient = torch.randn(
        100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ).to(dtype)
    expected = float(torch.linalg.vector_norm(gradient.double()))
    error = abs(measure(native(instruction_set), [gradient]).values["grad_norm"][0] / expected - 1)
    assert error <= (1e-13 if dtype is torch.float64 else 1e-7)


@contextmanager
def num_threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def some_gradients() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((700, 1000), (3, 5), (1_000_001,), (64, 3, 9, 9), (513, 4))
    return [
        torch.randn(shape, generator=generator).to(dtype)
        for dtype in REAL_DTYPES
        for shape in shapes
    ]


def assert_same(first: Measurement, second: Measurement) -> None:
    for name, numbers in {**first.values, **first.samples}.items():
        np.testing.assert_array_equal(numbers, {**second.values, **second.samples}[name], name)


@pytest.mark.parametrize("number", [2, 3])
def test_no_digit_depends_on_the_number_of_threads(number: int) -> None:
    gradients = some_gradients()
    with num_threads(1):
        expected = measure(native(), gradients)
    assert_agrees(expected, measure(ReferenceBackend(), gradients), gradients)
    with num_threads(number):
        for _ in range(5):
            assert_same(measure(native(), gradients), expected)


def test_threads_of_the_program_may_measure_at_once() -> None:
    backend = native()
    sets = [some_gradients(), some_gradients()[::-1]]
    expected = [measure(native(), gradients) for gradients in sets]
    failures: list[BaseException] = []
    begin = threading.Barrier(len(sets))

    def work(number: int) -> None:
        try:
            begin.wait()
            keys = range(100 * number, 100 * number + len(sets[number]))
            for _ in range(10):
                assert_same(
                    backend.measure(sets[number], sets[number], keys, (), sample=True),
                    expected[number],
                )
        except BaseException as failure:
            failures.append(failure)

    with num_threads(2):
        threads = [threading.Thread(target=work, args=(number,)) for number in range(len(sets))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


@pytest.mark.skipif(sys.platform == "win32", reason="this system does not fork")
def test_a_forked_child_measures_and_both_end() -> None:
    program = """
        import os, warnings, torch
        from seismograd.measure.backend_selection import make_backend
        warnings.simplefilter("ignore")
        torch.set_num_threads(2)
        gradients = [torch.ones(1000, 1000), torch.ones(3_000_000)]
        backend = make_backend()
        assert backend.name == "native"
        measure = lambda: backend.measure(gradients, gradients, range(2), (), True).values["grad_norm"].tolist()
        expected = measure()
        child = os.fork()
        if child == 0:
            os._exit(0 if measure() == expected == measure() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert measure() == expected
        print("measured")
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "measured\n"), done.stderr


def test_no_mode_and_no_subclass_sees_a_call() -> None:
    backend = native()
    gradients = [
        torch.ones(3, 3),
        torch.ones(2, 3).t(),
        torch.ones(4, 4).to_sparse(),
        torch.ones(3, 3).as_subclass(Loud),
    ]
    # the reference will be handed the rows of what comes as a subclass next
    measure(backend, gradients, sample=False)
    gradients[0] = gradients[0].as_subclass(Loud)
    scalars = [torch.ones(1), gradients[-1][0, 0]]
    with onlookers() as seen:
        backend.measure(gradients, gradients, range(len(gradients)), scalars, sample=True)
    assert seen == []


def test_inputs_and_random_state_are_untouched_and_nothing_is_kept() -> None:
    gradients = some_gradients()
    parameters = [torch.nn.Parameter(gradient.clone()) for gradient in gradients]
    copies = [gradient.clone() for gradient in gradients]
    random_state = torch.get_rng_state()
    backend = native()
    for sample in (False, True):
        backend.measure(gradients, parameters, range(len(gradients)), [parameters[1].sum()], sample)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [gradient._version for gradient in gradients] == [0] * len(gradients)
    assert all(map(torch.equal, gradients, copies))
    references = [weakref.ref(tensor) for tensor in (*gradients, *parameters)]
    del gradients, parameters
    gc.collect()
    assert [reference() for reference in references] == [None] * len(references)


def test_what_was_prepared_is_used_and_no_mode_sees_it() -> None:
    gradients = some_gradients()
    parameters = [torch.nn.Parameter(gradient.clone()) for gradient in gradients]
    keys = tuple(range(len(gradients)))
    backend = native()
    with onlookers() as seen:
        backend.prepare(parameters, keys, True)
    assert seen == []
    with mock.patch.object(native_backend, "make_table", side_effect=AssertionError):
        measured = backend.measure(gradients, parameters, keys, (), sample=True)
    assert_agrees(
        measured,
        ReferenceBackend().measure(gradients, parameters, keys, (), sample=True),
        gradients,
    )


@pytest.mark.parametrize("lay", [transposed, Tensor.to_sparse, Tensor.double])
def test_gradients_that_lie_otherwise_than_was_prepared_are_read_as_they_lie(
    lay: Callable[[Tensor], Tensor],
) -> None:
    gradients = [lay(torch.randn(6, 6)), torch.randn(6)]
    parameters = [torch.nn.Parameter(torch.randn(6, 6)), torch.nn.Parameter(torch.randn(6))]
    backend, keys = native(), (3, 1)
    backend.prepare(parameters, keys, True)
    for sample in (True, False, True):
        assert_agrees(
            backend.measure(gradients, parameters, keys, (), sample),
            ReferenceBackend().measure(gradients, parameters, keys, (), sample),
            gradients,
        )


@pytest.mark.parametrize(
    "lay", [transposed, channels_last, lambda tensor: tensor.permute(1, 3, 0, 2)]
)
def test_what_is_dense_in_another_order_is_read_as_it_lies(lay: Callable[[Tensor], Tensor]) -> None:
    gradient = lay(torch.randn(6, 5, 4, 3, generator=torch.Generator().manual_seed(0)))
    gradient[1] = 0
    gradient[2, ..., 1:] = 0
    with mock.patch.object(
        ReferenceBackend, "measure", side_effect=AssertionError("left to the reference")
    ):
        measured = measure(native(), [gradient])
    assert_agrees(measured, measure(ReferenceBackend(), [gradient]), [gradient])
    assert measured.samples["dead_rows"][0] == 1


def test_scalars_come_along() -> None:
    scalars = (
        torch.tensor(2.5, requires_grad=True),
        torch.tensor([1.25], dtype=torch.bfloat16),
        torch.tensor(math.nan),
        torch.ones(2),
        torch.tensor(3),
        torch.tensor(-math.inf),
        torch.tensor(0.5, dtype=torch.float8_e4m3fn),
        torch.tensor(1e300, dtype=torch.float64),
    )
    brought = native().measure((), (), (), scalars, sample=False).scalars
    np.testing.assert_array_equal(
        brought, [2.5, 1.25, math.nan, math.nan, math.nan, -math.inf, 0.5, 1e300]
    )


def test_weights_that_the_kernel_cannot_read_are_measured_all_the_same() -> None:
    integers, expanded, sparse_weight = (
        torch.ones((), dtype=torch.int64),
        torch.ones(1).expand(4),
        torch.ones(2, 2).to_sparse(),
    )
    weights = [torch.full((3, 3), 2.0), integers, torch.empty(0), expanded, sparse_weight]
    norms = (
        native()
        .measure([torch.ones(1)] * 5, weights, range(5), (), sample=True)
        .samples["weight_norm"]
    )
    np.testing.assert_array_equal(norms, [6.0, math.nan, 0.0, 2.0, 2.0])


def test_denormal_numbers_are_measured_in_a_program_that_flushes_them() -> None:
    gradients = [
        torch.full((100,), 1e-40),
        torch.full((100,), 6e-8).half(),
        torch.zeros(3),
        torch.full((5,), 5e-324, dtype=torch.float64),
    ]
    expected = measure(native(), gradients)
    if not torch.set_flush_denormal(True):
        pytest.skip("this machine does not flush them")
    try:
        assert_same(measure(native(), gradients), expected)
        assert float(torch.tensor(1e-40) * 1.0) == 0  # and flushes them still
    finally:
        torch.set_flush_denormal(False)


# What may happen to a parameter's gradient from one iteration to the next, to the one tensor that
# it is or with another.
def relaid(gradient: Tensor) -> Tensor:
    return gradient.t_()


def shrunk(gradient: Tensor) -> Tensor:
    return gradient[: gradient.shape[0] // 2]


def negated(gradient: Tensor) -> Tensor:
    return torch._neg_view(gradient)


def retyped(gradient: Tensor) -> Tensor:
    return gradient.view(torch.bfloat16)


def freed(gradient: Tensor) -> Tensor:
    later = gradient.flatten()[3:]
    gradient.untyped_storage().resize_(0)
    return later


@pytest.mark.parametrize("has_guards", [True, False])
@pytest.mark.parametrize(
    "change",
    [relaid, shrunk, negated, retyped, freed, Tensor.to_sparse, Tensor.double, Tensor.clone],
)
def test_a_gradient_that_lies_otherwise_than_before_is_read_as_it_lies(
    change: Callable[[Tensor], Tensor], has_guards: bool
) -> None:
    gradient, steady = torch.arange(24.0).reshape(6, 4), torch.ones(5)
    backend, reference = native(), ReferenceBackend()
    with mock.patch.dict(sys.modules, {} if has_guards else {"torch._C._dynamo.guards": None}):
        for each in (backend, reference):
            measure(each, [gradient, steady])
        changed = [change(gradient), steady]
        assert_agrees(
            measure(backend, changed),
            measure(reference, changed),
            [c for c in changed if change is not freed],
        )


NUM_ROWS = 4
forms = st.sampled_from(
    [
        Tensor.clone,
        Tensor.to_sparse,
        lambda t: t.t().contiguous().t(),
        lambda t: torch.cat([t, t], 1)[:, :2],
    ]
)
columns = st.lists(
    st.sampled_from([0.0, -0.0, 1.0, math.nan, 5e-324]), min_size=NUM_ROWS, max_size=NUM_ROWS
)
iterations = st.lists(
    st.tuples(st.dictionaries(st.integers(0, 2), st.tuples(columns, forms)), st.booleans()),
    max_size=10,
)


@given(iterations)
def test_rows_are_remembered_from_sample_to_sample_in_whatever_form_they_come(
    iterations: list[tuple[dict[int, tuple[list[float], Callable[[Tensor], Tensor]]], bool]],
) -> None:
    backend = native()
    alive = {key: [False] * NUM_ROWS for key in range(3)}
    for parameters, sample in iterations:
        gradients = []
        for key, (column, form) in parameters.items():
            gradient = torch.zeros(NUM_ROWS, 2, dtype=torch.float64)
            gradient[:, 0] = torch.tensor(column, dtype=torch.float64)
            gradients.append(form(gradient))
            alive[key] = [before or x != 0 for before, x in zip(alive[key], column, strict=True)]
        measured = backend.measure(gradients, gradients, list(parameters), (), sample)
        if sample:
            assert measured.samples["dead_rows"].tolist() == [
                alive[key].count(False) for key in parameters
            ]
            alive.update({key: [False] * NUM_ROWS for key in parameters})


@every_set
@given(
    seed=st.integers(0, 2**32),
    num_rows=st.integers(1, 5000),
    width=st.integers(1, 300),
    is_transposed=st.booleans(),
)
def test_rows_are_found_across_blocks(
    instruction_set: str, seed: int, num_rows: int, width: int, is_transposed: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    gradient = (
        torch.zeros(num_rows, width).t().contiguous().t()
        if is_transposed
        else torch.zeros(num_rows, width)
    )
    is_alive = torch.rand(num_rows, generator=generator) < 0.5
    gradient[is_alive, int(torch.randint(width, (1,), generator=generator))] = 1.0
    assert measure(native(instruction_set), [gradient]).samples["dead_rows"][0] == int(
        (~is_alive).sum()
    )


def test_without_the_kernel_the_reference_measures_and_says_so() -> None:
    assert isinstance(backend_selection.make_backend(), NativeBackend)
    assert backend_selection.why_slow() is None
    with mock.patch.object(backend_selection, "load", return_value=None):
        assert isinstance(backend_selection.make_backend(), ReferenceBackend)
        assert backend_selection.why_slow() is not None


@pytest.mark.skipif("CI" not in os.environ, reason="elsewhere it may be missing")
def test_the_kernel_is_built_in_ci() -> None:
    assert LIBRARY is not None
