"""Sketches: by the definition in docs/record.md, linear, the same for every layout and for parts
put together, and as exact as 64 random sums are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from seismograd.measure.native import native_sketch, tensor_reads
from seismograd.measure.native.library import INSTRUCTION_SETS, load
from seismograd.measure.native.native_sketch import sketch_all
from seismograd.measure.sketches.gradient_sketches import sketch_gradients
from seismograd.measure.sketches.position_runs import runs_of, whole
from seismograd.measure.sketches.reference_sketch import sketch_at, sketch_of
from seismograd.schema import SKETCH_WIDTH, FloatArray
from tests.measure.tensors import channels_last, transposed

LIBRARY = load()
SETS = [
    number
    for number, _ in enumerate(INSTRUCTION_SETS)
    if LIBRARY is not None and LIBRARY.seismograd_has(number)
]
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
SIZES = (1, 2, 63, 64, 65, 1000, 64 * 64 + 1, 64 * 3584 + 130)


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def sketch(tensor: Tensor) -> FloatArray:
    return sketch_gradients([tensor]).values[0]


def mixed(x: int) -> int:
    most = (1 << 64) - 1
    x = (x + 0x9E3779B97F4A7C15) & most
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & most
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & most
    return x ^ (x >> 31)


def sign(position: int, j: int) -> int:
    block, at = divmod(position, 64)
    odd = (mixed(2 * block) >> at) + (j & at).bit_count() + (mixed(2 * block + 1) >> j)
    return -1 if odd & 1 else 1


def by_the_book(values: list[float], first: int = 0) -> FloatArray:
    return np.array(
        [
            math.fsum(sign(first + i, j) * value for i, value in enumerate(values))
            for j in range(SKETCH_WIDTH)
        ]
    )


def assert_close(one: FloatArray, other: FloatArray, tolerance: float = 1e-5) -> None:
    assert np.linalg.norm(one - other) <= tolerance * np.linalg.norm(other)


def cosine(one: FloatArray, other: FloatArray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("count", [1, 64, 65, 200])
def test_every_sum_has_the_signs_of_the_definition(count: int) -> None:
    tensor = numbers(count, dtype=torch.float64)
    assert_close(sketch(tensor), by_the_book(tensor.tolist()), 1e-12)
    assert_close(sketch_of(tensor, whole(count)).numpy(), by_the_book(tensor.tolist()), 1e-12)


@pytest.mark.skipif(load() is None, reason="the kernel was not built: pip install -e .")
@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("count", SIZES)
def test_the_kernel_sums_as_the_reference_does(
    instruction_set: int, dtype: torch.dtype, count: int
) -> None:
    tensor, places = numbers(count, seed=count, dtype=dtype), whole(count)
    kernel = sketch_all(load(), [tensor], [places], instruction_set)[0]
    assert_close(kernel, sketch_of(tensor, places).numpy())


@pytest.mark.skipif(not tensor_reads.has_extension(), reason="for the extension")
def test_several_at_once_have_the_same_sums() -> None:
    """Of plain tensors in one call, of others one by one."""
    plain = [numbers(size, seed=size, dtype=dtype) for size in SIZES for dtype in DTYPES]
    together = native_sketch.sketch_plain(load(), plain)
    with tensor_reads.without_extension():
        assert native_sketch.sketch_plain(load(), plain) is None
        one_by_one = sketch_gradients(plain).values
    assert together is not None
    assert together.tobytes() == one_by_one.tobytes() == sketch_gradients(plain).values.tobytes()


@pytest.mark.skipif(load() is None, reason="the kernel was not built: pip install -e .")
@pytest.mark.parametrize(
    "odd", [torch.ones(0), torch.ones(3, dtype=torch.complex64), torch.ones(3, 2).T], ids=str
)
def test_what_is_not_plain_is_not_sketched_with_others(odd: Tensor) -> None:
    assert native_sketch.sketch_plain(load(), [numbers(10), odd]) is None


@given(
    shape=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    dim=st.integers(0, 2),
    parts=st.integers(1, 5),
)
def test_the_sketches_of_parts_add_up_to_that_of_the_whole(
    shape: list[int], dim: int, parts: int
) -> None:
    tensor, dim = numbers(*shape), dim % len(shape)
    first, total, by_torch = 0, np.zeros(SKETCH_WIDTH), np.zeros(SKETCH_WIDTH)
    for part in tensor.chunk(parts, dim):
        offset = [first if d == dim else 0 for d in range(len(shape))]
        runs = runs_of(shape, offset, part.shape)
        assert runs.numel == part.numel()
        by_torch += sketch_of(part.contiguous(), runs).numpy()
        if (kernel := load()) is not None:
            total += sketch_all(kernel, [part.contiguous()], [runs])[0]
        first += part.shape[dim]
    assert_close(by_torch, sketch(tensor))
    if load() is not None:
        assert_close(total, sketch(tensor))


def test_a_block_in_the_middle_of_a_matrix_has_its_own_positions() -> None:
    tensor = numbers(9, 100)
    block, kept = tensor[2:5, 30:97].contiguous(), torch.zeros(9, 100)
    kept[2:5, 30:97] = block
    assert_close(sketch_of(block, runs_of((9, 100), (2, 30), block.shape)).numpy(), sketch(kept))


def test_it_is_linear_over_micro_batches() -> None:
    parts = [numbers(300, seed=seed) for seed in range(4)]
    assert_close(
        sum(map(sketch, parts), np.zeros(SKETCH_WIDTH)), sketch(sum(parts, torch.zeros(300)))
    )


def test_the_layout_in_memory_does_not_matter() -> None:
    for tensor in (channels_last(numbers(6, 4, 5, 7)), transposed(numbers(30, 70))):
        assert not tensor.is_contiguous()
        assert_close(sketch(tensor), sketch(tensor.contiguous()))


def test_a_sparse_gradient_has_the_sketch_of_the_dense_one() -> None:
    dense = numbers(50, 30)
    dense[torch.arange(50) % 3 > 0] = 0
    assert_close(sketch(dense.to_sparse(1)), sketch(dense))
    assert_close(
        sketch(torch.stack([dense, dense]).to_sparse()), sketch(torch.stack([dense, dense]))
    )
    at = dense.flatten().nonzero()[:, 0]
    assert_close(sketch_at(dense.flatten()[at], at).numpy(), sketch(dense))


def test_a_complex_gradient_is_two_real_numbers_for_each() -> None:
    tensor = torch.view_as_complex(numbers(40, 2))
    assert_close(sketch(tensor), sketch(torch.view_as_real(tensor)))


def test_what_cannot_be_read_has_none_and_what_is_empty_has_zeros() -> None:
    values = sketch_gradients([torch.empty(3, device="meta"), torch.empty(0, 5), numbers(3)]).values
    assert np.isnan(values[0]).all()
    assert (values[1] == 0).all()
    assert np.isfinite(values[2]).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_number_that_is_not_finite_shows_in_every_sum(bad: float) -> None:
    tensor = numbers(200)
    tensor[70] = bad
    assert not np.isfinite(sketch(tensor)).any()


def test_up_to_a_block_nothing_is_lost() -> None:
    for count in (1, 2, 10, 64):
        one, other = numbers(count, seed=1), numbers(count, seed=2)
        exact = float(torch.nn.functional.cosine_similarity(one, other, dim=0))
        assert cosine(sketch(one), sketch(other)) == pytest.approx(exact, abs=1e-5)


# The cosines of true gradients ---------------------------------------------------------------------


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(12, 24, batch_first=True), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(200, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.table(x).mean(1))


def images() -> Tensor:
    return torch.randn(8, 3, 12, 12)


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "perceptron": (
        lambda: nn.Sequential(
            nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 5)
        ),
        lambda: torch.randn(16, 40),
    ),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * 64, 5),
        ),
        images,
    ),
    "recurrent": (Recurrent, lambda: torch.randn(8, 10, 12)),
    "transformer": (
        lambda: nn.Sequential(
            nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True),
            nn.Flatten(),
            nn.Linear(320, 5),
        ),
        lambda: torch.randn(8, 10, 32),
    ),
    "words": (Words, lambda: torch.randint(0, 200, (16, 6))),
}


def gradients(name: str, num_batches: int) -> Iterator[list[Tensor]]:
    """The gradients of one model, after a few steps, for several batches."""
    make, draw = MODELS[name]
    torch.manual_seed(0)
    model = make()
    optimizer = torch.optim.Adam(model.parameters())
    for number in range(20 + num_batches):
        optimizer.zero_grad()
        x = draw()
        nn.functional.cross_entropy(model(x), torch.randint(0, 5, (len(x),))).backward()
        if number < 20:
            optimizer.step()
        else:
            yield [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", MODELS)
def test_the_cosines_of_true_gradients_are_as_exact_as_64_sums_allow(name: str) -> None:
    batches = list(gradients(name, 12))
    sketches = [sketch_gradients(each).values for each in batches]
    errors: list[float] = []
    for a in range(len(batches)):
        for b in range(a):
            for p, (one, other) in enumerate(zip(batches[a], batches[b], strict=True)):
                if one.any() and other.any():
                    exact = nn.functional.cosine_similarity(
                        one.double().flatten(), other.double().flatten(), dim=0
                    )
                    errors.append(cosine(sketches[a][p], sketches[b][p]) - float(exact))
    assert np.sqrt(np.mean(np.square(errors))) <= 1 / math.sqrt(SKETCH_WIDTH)
    assert abs(np.mean(errors)) <= 0.02


def test_regular_gradients_are_no_harder_than_random_ones() -> None:
    """Outer products, a single column, steps and constants: what bad signs would not tell apart."""
    errors: list[float] = []
    for width in range(300, 340, 2):
        rows, columns = numbers(96, seed=width), numbers(width, seed=width + 1)
        one_column = torch.zeros(96, width)
        one_column[:, 64] = rows
        shapes = [
            torch.outer(rows, columns),
            torch.outer(rows.flip(0), columns),
            torch.outer(rows, columns.roll(64)),
            one_column,
            one_column.roll(1, 0),
            torch.ones(96, width),
            (torch.arange(96.0)[:, None] - 47.5).expand(96, width).contiguous(),
            (torch.arange(float(width)) - width / 2).expand(96, width).contiguous(),
        ]
        for i, one in enumerate(shapes):
            for other in shapes[:i]:
                exact = nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0)
                errors.append(cosine(sketch(one), sketch(other)) - float(exact))
    assert np.sqrt(np.mean(np.square(errors))) <= 1 / math.sqrt(SKETCH_WIDTH)
    assert max(map(abs, errors)) <= 4 / math.sqrt(SKETCH_WIDTH)


def test_a_distance_of_one_in_a_million_shows() -> None:
    one = numbers(5000, dtype=torch.float64)
    other = one * 3 + numbers(5000, seed=9, dtype=torch.float64) * 3e-6
    distance = np.linalg.norm(sketch(one) - sketch(other) / 3) / np.linalg.norm(sketch(one))
    assert distance == pytest.approx(1e-6, rel=0.4)
