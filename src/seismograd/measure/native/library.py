"""The kernel's library: its location, its functions, its memory layout.

It is built by setup.py as `_kernel` beside this file, and missing where there was no compiler.
"""

from __future__ import annotations

import atexit
import ctypes
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import torch

# `seismograd_interface` in kernel/kernel.cpp; a library with another value is not called
INTERFACE = 2

# A table of tensors is an array of int64  # (n, ENTRY_WORDS), each row an `Entry` of
# kernel/entry.hpp with these words.
POINTER, COUNT, ROWS, NUM_ROWS, RUN, DTYPE, WANTED = range(7)
ENTRY_WORDS = 7
EXPONENTS, REPORT_ROWS = 1, 2  # `Wanted`
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)  # `DType`
# `Slice` of kernel/updates.hpp: weights, gradients, kept, marks, count, dtype, dtype of the
# gradients
SLICE_WORDS = 7
# `Sketched` of kernel/sketch.hpp: numbers, starts, number of runs, run, dtype
SKETCHED_WORDS = 5
ROWS_HEADER_BYTES = 8  # `Rows`: the number of dead rows (int64) is followed by one byte per row
# what `seismograd_measure` returns, in its order
NUMBERS = ("norm", "largest", "sum", "zeros", "nonfinite", "dead_rows")
INSTRUCTION_SETS = ("portable", "avx2", "avx512", "neon")  # `InstructionSet` of kernel/machine.hpp
BEST_INSTRUCTION_SET = -1


@cache
def load() -> ctypes.CDLL | None:
    """Return the library with its functions declared, or `None` where it was not built, or not for
    this interface or machine.
    """
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_kernel{suffix}")
        if path.exists():
            break
    else:
        return None
    try:
        library = ctypes.CDLL(str(path))
        if library.seismograd_interface() != INTERFACE:
            return None
    except (OSError, AttributeError):  # wrong platform, or a stale build
        return None
    pointer = ctypes.c_void_p
    library.seismograd_measure.argtypes = (
        pointer,
        ctypes.c_int64,
        ctypes.c_int32,
        ctypes.c_int32,
        pointer,
        pointer,
    )
    library.seismograd_measure.restype = ctypes.c_int32
    library.seismograd_keep.argtypes = (pointer, ctypes.c_int64)
    library.seismograd_keep.restype = None
    library.seismograd_compare.argtypes = (pointer, ctypes.c_int64, pointer)
    library.seismograd_compare.restype = None
    library.seismograd_read.argtypes = (pointer, ctypes.c_int64, ctypes.c_int32)
    library.seismograd_read.restype = ctypes.c_uint64
    atexit.register(library.seismograd_stop)
    return library


@cache
def load_sketch() -> Any | None:
    """Return the kernel's function that sketches, declared, or `None` where there is none: no
    kernel, or one that was built before it had that.
    """
    library = load()
    function: Any = None if library is None else getattr(library, "seismograd_sketch", None)
    if function is not None:
        pointer = ctypes.c_void_p
        function.argtypes = (pointer, ctypes.c_int64, ctypes.c_int32, ctypes.c_int32, pointer)
        function.restype = ctypes.c_int32
    return function


@cache
def load_outside() -> Any | None:
    """Return the kernel's function that counts what is outside of an interval, declared, or `None`
    where there is none, as with `load_sketch`.
    """
    library = load()
    function: Any = None if library is None else getattr(library, "seismograd_outside", None)
    if function is not None:
        whole, real = ctypes.c_int64, ctypes.c_double
        function.argtypes, function.restype = (ctypes.c_void_p, whole, whole, real, real), whole
    return function


@cache
def load_moments() -> Any | None:
    """Return the kernel's function that measures what an optimizer remembers, declared, or `None`
    where there is none, as with `load_sketch`.
    """
    library = load()
    function: Any = None if library is None else getattr(library, "seismograd_moments", None)
    if function is not None:
        function.argtypes, function.restype = (ctypes.c_void_p, ctypes.c_void_p), None
    return function


def address_of(array: Any) -> Any:
    """Return the address of an array, as an argument: in a third of the time that `array.ctypes`
    takes. `None` for no array and for an empty one.
    """
    return (
        ctypes.byref(ctypes.c_char.from_buffer(array)) if array is not None and array.size else None
    )
