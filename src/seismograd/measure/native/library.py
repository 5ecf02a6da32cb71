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
INTERFACE = 3

# A table of tensors is an array of int64  # (n, ENTRY_WORDS), each row an `Entry` of
# kernel/entry.hpp with these words.
POINTER, COUNT, ROWS, NUM_ROWS, RUN, DTYPE, WANTED = range(7)
ENTRY_WORDS = 7
EXPONENTS, REPORT_ROWS = 1, 2  # `Wanted`
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)  # `DType`
DTYPE_CODES = {dtype: code for code, dtype in enumerate(DTYPES)}
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

_POINTER, _WHOLE, _SMALL, _REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_double
# what each takes and returns; kernel/kernel.cpp says what they do
FUNCTIONS: dict[str, tuple[tuple[Any, ...], Any]] = {
    "seismograd_measure": ((_POINTER, _WHOLE, _SMALL, _SMALL, _POINTER, _POINTER), _SMALL),
    "seismograd_keep": ((_POINTER, _WHOLE), None),
    "seismograd_compare": ((_POINTER, _WHOLE, _POINTER), None),
    "seismograd_sketch": ((_POINTER, _WHOLE, _SMALL, _SMALL, _POINTER), _SMALL),
    "seismograd_outside": ((_POINTER, _WHOLE, _WHOLE, _REAL, _REAL), _WHOLE),
    "seismograd_moments": ((_POINTER, _POINTER), None),
    "seismograd_read": ((_POINTER, _WHOLE, _SMALL), ctypes.c_uint64),
}


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
        for name, (arguments, result) in FUNCTIONS.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, result
    except (OSError, AttributeError):  # wrong platform, or a stale build
        return None
    atexit.register(library.seismograd_stop)
    return library


def address_of_function(function: Any) -> int:
    """Return the address of a function of a library, for what calls it without ctypes."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def address_of(array: Any) -> Any:
    """Return the address of an array, as an argument: in a third of the time that `array.ctypes`
    takes. `None` for no array and for an empty one.
    """
    return (
        ctypes.byref(ctypes.c_char.from_buffer(array)) if array is not None and array.size else None
    )
