"""Functions of torch's C interface for compiled models that say where a tensor lies, for
`tensor_reads`: no object of Python's is made for its storage, which else lives as long as the
gradient.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seismograd.tensors.isolation import without_user_modes

NAMES = (
    "aoti_torch_get_storage_offset",
    "aoti_torch_get_storage_size",
    "aoti_torch_get_data_ptr",
)
# beside torch's Python files, where the module does not find its names in what it was linked with
LIBRARIES = {"win32": "torch_cpu.dll", "darwin": "libtorch_cpu.dylib"}


def addresses() -> tuple[int, int, int] | None:
    """Return where the functions for a tensor's offset, the bytes of its storage and its address
    are; `None` where this torch has none, or they say something else than its Python.
    """
    for library in _libraries():
        try:
            offset, num_bytes, address = (getattr(library, name) for name in NAMES)
        except AttributeError:
            continue
        with without_user_modes():
            if not all(_are_right((offset, num_bytes, address), each) for each in _examples()):
                return None
        return _address(offset), _address(num_bytes), _address(address)
    return None


def _libraries() -> Iterator[ctypes.CDLL]:
    name = LIBRARIES.get(sys.platform, "libtorch_cpu.so")
    module: Any = torch._C  # pyright: ignore[reportPrivateUsage]
    for path in (module.__file__, str(Path(torch.__file__).parent / "lib" / name)):
        try:
            yield ctypes.CDLL(path)
        except (OSError, TypeError):
            continue


def _examples() -> tuple[Tensor, ...]:
    whole = torch.zeros(4, 6, dtype=torch.float32, device="cpu")
    wide = torch.zeros(3, dtype=torch.float64, device="cpu")
    return whole, whole[1:, 2:], whole[:0], wide[1:]


def _are_right(functions: tuple[Any, Any, Any], tensor: Tensor) -> bool:
    """Return whether they say what Python does of this tensor."""
    # a handle is where a pointer to what `_cdata` is stands
    handle, found, said = ctypes.c_void_p(tensor._cdata), ctypes.c_int64(), list[int]()
    for function in functions:
        if function(ctypes.byref(handle), ctypes.byref(found)) != 0:
            return False
        said.append(found.value)
    num_bytes = tensor.untyped_storage().nbytes()
    return said == [tensor.storage_offset(), num_bytes, tensor.data_ptr()]


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0
