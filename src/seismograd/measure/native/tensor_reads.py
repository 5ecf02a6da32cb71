"""Ask many tensors for what a steady step wants of each: in one call of C where the extension was
built, else by Python.

The extension (reads/tensor_reads.cpp) answers "unexpected" for everything that is not ordinary.
Without it each function but `marks`, `identities` and `keeper` always does, and who asks then goes
another way, with the same result. They are looked up here at each call, so a test can exchange them
(`without_extension`).
"""

from __future__ import annotations

import weakref
from array import array
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from seismograd.measure.native import torch_shim

INTERFACE = 9  # `kInterface` of the extension

# which tensor the gradient is and how often it was changed in place; `None`: no gradient
Signature = tuple[int, int] | None
Keeper = Callable[[tuple[Tensor, ...]], None]


def _marks(references: list[weakref.ref[Tensor]]) -> list[Signature]:
    found: list[Signature] = []
    for reference in references:  # a comprehension would be one more call
        parameter = reference()
        gradient = None if parameter is None else parameter.grad
        found.append(None if gradient is None else (id(gradient), gradient._version))
    return found


def _no_gradients(_: list[Tensor], __: list[int]) -> list[Tensor] | None:
    return None


def _not_filled(_: Callable[..., bool], __: list[Tensor], *___: int) -> bool:
    return False


def _not_known(_: Sequence[Any]) -> bool:
    return False


def _no_number(_: Tensor, __: Mapping[torch.dtype, int]) -> int:
    return -1


def _not_measured(_: Callable[..., bool], __: list[Tensor], *___: int) -> None:
    return None


def _not_asked(_: Sequence[Any]) -> None:
    return None


def _no_shape(_: Any, __: int) -> None:
    return None


def _not_searched(_: list[Any], __: int, ___: int, ____: Mapping[str, Any], _____: int) -> bool:
    return False


def _not_as_before(*_: Any) -> int:
    return -1


class HeldFields:
    """What is held of a call of a model: `capture.birth.held_calls.HeldCall` says what each is. The
    extension has a class of its own with these attributes.
    """

    __slots__ = (
        "args",
        "autocast",
        "gradients",
        "kwargs",
        "last",
        "model",
        "problem",
        "random",
        "versions",
    )
    model: weakref.ref[torch.nn.Module]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    versions: list[tuple[Tensor, int]]
    random: Tensor | None
    autocast: tuple[bool, torch.dtype] | None
    gradients: dict[int, Tensor]
    last: int
    problem: str


def _identities(objects: list[Any]) -> bytes:
    return array("Q", map(id, objects)).tobytes()


def _no_table(
    _: list[Any], __: dict[torch.dtype, int], ___: dict[torch.dtype, int], ____: int
) -> None:
    return None


def _not_kept(_: list[Any], *__: Any) -> None:
    return None


def _not_compared(*_: Any) -> bool:
    return False


def _not_counted(_: Any, __: Mapping[str, bool]) -> None:
    return None


def _no_count(_: torch.nn.Module) -> int:
    return -1


def _not_listed(_: Sequence[object], __: tuple[type, ...]) -> list[object] | None:
    return None


def _keeper(gradients: dict[int, Tensor], number: int, position: int) -> Keeper:
    def keep(incoming: tuple[Tensor, ...]) -> None:
        gradient: Any = incoming[position] if position < len(incoming) else None
        if gradient is not None and not gradient.requires_grad:
            gradients[number] = gradient

    return keep


# Which tensors the gradients of these parameters are now, and how often each was changed in place.
marks: Callable[[list[weakref.ref[Tensor]]], list[Signature]] = _marks
# The gradients of plain parameters that have these ids, all of them plain tensors; or `None`.
gradients: Callable[[list[Tensor], list[int]], list[Tensor] | None] = _no_gradients
# Fill the pointers of tensors into a table: a check of their layouts, the tensors, the addresses of
# the offsets and sizes of storage that they had  # (n, 2), and of the entries, the words of each.
# `False` where one lies in another way, and must be looked at; then none is written.
fill: Callable[[Callable[..., bool], list[Tensor], int, int, int], bool] = _not_filled
# Whether these slices (`capture.probes.weight_slice`) surely are what was kept of them.
unchanged: Callable[[Sequence[Any]], bool] = _not_known
# Keep them as they are now; `False` where some may not be.
keep: Callable[[Sequence[Any]], bool] = _not_known
# The number of a tensor's dtype, where it is plain, on the CPU, contiguous and with memory; or -1.
number_of_dtype: Callable[[Tensor, Mapping[torch.dtype, int]], int] = _no_number
# A hook of a node that keeps the gradient at this position, by its number, unless that has a graph.
keeper: Callable[[dict[int, Tensor], int, int], Keeper] = _keeper
# Fill the pointers in and have the kernel measure: what `fill` takes, then the address of its
# function, the threads and the set of instructions; of how many rows its numbers are, and which are
# the norms and the counts that are not finite. The numbers  # (rows, n), and whether no norm is 0
# and no number not finite; or `None` where Python must do it.
measure: Callable[..., tuple[bytes, bool] | None] = _not_measured
# Hold a call that begins, as `capture.birth.held_calls` does: what is followed, its `HeldCalls`,
# the model, its arguments; the class of what is held, and how many there are at most. What is held,
# `None` where the call is no training of a followed model, `False` where Python must see.
entered: Callable[..., Any] = _not_compared
# Have the gradient of what a model returned kept by what is held of its call: by a hook that this
# tensor lends, up to so many bytes. Whether it was done, or there is none.
left: Callable[[Any, Any, Tensor, int], bool] = _not_compared
# The shape of the first result below a node that has one, in so many hops; `None` where Python must
# look.
shape_below: Callable[[Any, int], tuple[int, ...] | None] = _no_shape
# Whether none of the operations below the only one of these nodes that were made after the one with
# this number has one of these names, but powers and quotients whose derivative is finite at each
# number: the number of leaves, and how many nodes are looked at. `False` where Python must look.
has_none: Callable[[list[Any], int, int, Mapping[str, Any], int], bool] = _not_searched
# Whether the shape that a loss was reduced from is this one, and whether `has_none` is false of its
# operations behind the calls that are held: the loss, its node, the calls, the shape, the most
# hops, the number of leaves, the names, and how many nodes are looked at. The node's number and
# behind it one bit for that; -1 where the shape is another one, or Python must look.
loss_as_before: Callable[..., int] = _not_as_before
# The number that a loss is, where it is float32 and plain; `None` where Python must look.
number_of_loss: Callable[[Any], float | None] = _not_asked
# Which objects these are, in a form that is quickly made and compared.
identities: Callable[[list[Any]], bytes] = _identities
# The table of slices that the kernel copies or compares (`measure.native.slice_copies`), for copies
# at this address: with the numbers and the sizes of dtypes. And how much memory all of them take;
# `None` where Python must make it.
slice_table: Callable[
    [list[Any], dict[torch.dtype, int], dict[torch.dtype, int], int], tuple[bytes, int] | None
] = _no_table
# Those of a list that are of these classes, or of classes below them; `None` where Python must ask.
of_kinds: Callable[[Sequence[object], tuple[type, ...]], list[object] | None] = _not_listed
# Copy slices of so many of these parameters, beginning with that at this position, in this turn and
# of so many scalars at most, to this address, where there are so many bytes: then the function of
# the kernel that does. The slices, the dtypes of their weights, and where to go on, in which turn;
# `None` where the kernel cannot read one of them, or they need more memory.
keep_slices: Callable[
    ..., tuple[list[tuple[Tensor, Tensor, int, int]], list[torch.dtype], int, int] | None
] = _not_kept
# Compare the weights of such slices with the copies at this address, if they have these dtypes
# still: then the function of the kernel, and the array for its numbers. Whether it was done.
compare_slices: Callable[..., bool] = _not_compared
# Have the kernel measure gradients with samples, and weights: of each a check of their layouts, the
# tensors, and the addresses that `fill` takes; then, as for `measure`, the words of an entry, the
# function, the threads and the set of instructions; the arrays for the numbers of both and for the
# exponents. Whether it was done; if not, no row counts as looked at.
measure_sample: Callable[..., bool] = _not_compared
# Over how many numbers a loss is a mean, as the operation that made it shows: by the names of such
# operations, whether they are over the targets that count. With the number that the mean was
# divided by (`True`) or multiplied with, where that was the last operation. `None` where Python
# must look.
mean_of_loss: Callable[[Any, Mapping[str, bool]], float | tuple[float, float, bool] | None] = (
    _not_counted
)
# Have the kernel sketch tensors that are here whole: the numbers of dtypes, the address of its
# function, the threads and the set of instructions, and an array of zeros  # (n, W) for the sums.
# Whether it was done; if not, nothing was added.
sketch: Callable[..., bool] = _not_compared
# Have the kernel compare some rows of a gradient with those of the averages of its squares and of
# itself (or `None`): the numbers of dtypes, that of float32, in which turn and of how many scalars
# at most, the address of its function; what the gradient was multiplied by, what the averages of
# both are divided by, and eps. What the kernel gives, and of how many scalars; `None` where Python
# must do it.
moments: Callable[..., tuple[float, float, float, float, int] | None] = _not_measured
# How many parameters a module and those below it hold; -1 where Python must count.
num_parameters_below: Callable[[torch.nn.Module], int] = _no_count
# The entries of EVENT_DTYPE of all calls of these iterations, where all their numbers are known;
# `None` where Python must make them.
event_entries: Callable[[list[Any]], bytearray | None] = _not_asked
# Those of STEP_DTYPE, where each iteration is one step on one loss at most, without a scale: with
# the norms of the ready and the used gradients, and the numbers of those that have samples.
step_entries: Callable[[list[Any], list[float], list[float], list[int]], bytearray | None] = (
    _not_kept
)

NAMES = (
    "marks",
    "gradients",
    "fill",
    "unchanged",
    "keep",
    "number_of_dtype",
    "keeper",
    "measure",
    "entered",
    "left",
    "shape_below",
    "has_none",
    "loss_as_before",
    "number_of_loss",
    "identities",
    "slice_table",
    "of_kinds",
    "keep_slices",
    "compare_slices",
    "measure_sample",
    "mean_of_loss",
    "num_parameters_below",
    "sketch",
    "moments",
    "event_entries",
    "step_entries",
)
_BY_PYTHON = {name: globals()[name] for name in NAMES}


def _load() -> dict[str, Any]:
    """Return the functions of the extension, none where it was not built, or not for this."""
    try:
        from seismograd.measure.native import _tensor_reads  # pyright: ignore
    except ImportError:
        return {}
    if getattr(_tensor_reads, "INTERFACE", 0) != INTERFACE:  # pyright: ignore
        return {}
    if not all(hasattr(_tensor_reads, name) for name in NAMES):  # pyright: ignore  # built before
        return {}
    # the base of what is held of a call: chosen for good, as `entered` makes nothing else
    globals()["HeldFields"] = _tensor_reads.HeldFields  # pyright: ignore
    _tensor_reads.use_torch(torch_shim.addresses())  # pyright: ignore
    return {name: getattr(_tensor_reads, name) for name in NAMES}  # pyright: ignore


_BY_EXTENSION = _load()
globals().update(_BY_EXTENSION)


def has_extension() -> bool:
    """Return whether the extension was built."""
    return bool(_BY_EXTENSION)


@contextmanager
def without_extension() -> Generator[None]:
    """Inside, Python asks."""
    globals().update(_BY_PYTHON)
    try:
        yield
    finally:
        globals().update(_BY_EXTENSION)
