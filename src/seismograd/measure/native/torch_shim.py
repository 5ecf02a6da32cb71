"""Functions of torch's C interface for compiled models that say where a tensor lies, what shape it
has and which number it is, for `tensor_reads`: no object of Python's is made for its storage, which
else lives as long as the gradient.
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
    "aoti_torch_get_dim",
    "aoti_torch_get_sizes",
    "aoti_torch_get_dtype",
    "aoti_torch_get_device_type",
    "aoti_torch_item_float32",
    "aoti_torch_item_float64",
    "aoti_torch_item_int64",
)
# its numbers for them, as the extension has them
CPU = 0
DTYPES = {torch.int64: 4, torch.float32: 6, torch.float64: 7}
# beside torch's Python files, where the module does not find its names in what it was linked with
LIBRARIES = {"win32": "torch_cpu.dll", "darwin": "libtorch_cpu.dylib"}


def addresses() -> tuple[int, ...]:
    """Return where the functions for a tensor's offset, the bytes of its storage, its address, its
    number of dimensions, its sizes, its dtype, its type of device and its only number are, by its
    dtype; nothing where this torch has not all of them, or they say something else than its Python.
    """
    for library in _libraries():
        try:
            functions = tuple(getattr(library, name) for name in NAMES)
        except AttributeError:
            continue
        with without_user_modes():
            if not all(_are_right(functions, each) for each in _examples()):
                return ()
        return tuple(map(_address, functions))
    return ()


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
    numbers = (
        torch.tensor(0.7, dtype=dtype, device="cpu") for dtype in (torch.float32, wide.dtype)
    )
    return whole, whole[1:, 2:], whole[:0], wide[1:], *numbers, torch.tensor(7, device="cpu")


def _are_right(functions: tuple[Any, ...], tensor: Tensor) -> bool:
    """Return whether they say what Python does of this tensor."""
    # a handle is where a pointer to what `_cdata` is stands
    handle, sizes = ctypes.c_void_p(tensor._cdata), ctypes.POINTER(ctypes.c_int64)()
    places: list[Any] = [ctypes.c_int64() for _ in range(4)]
    kinds: list[Any] = [ctypes.c_int32(), ctypes.c_int32()]
    items: list[Any] = [ctypes.c_float(), ctypes.c_double(), ctypes.c_int64()]
    found = [*places, sizes, *kinds]
    if tensor.dim() == 0:
        found += items
    for function, each in zip(functions, found, strict=False):
        if function(ctypes.byref(handle), ctypes.byref(each)) != 0:
            return False
    of_python = (tensor.storage_offset(), tensor.untyped_storage().nbytes(), tensor.data_ptr())
    dtype, device = (each.value for each in kinds)
    kept = {torch.float32: items[0], torch.float64: items[1], torch.int64: items[2]}
    return (
        tuple(each.value for each in places) == (*of_python, tensor.dim())
        and tuple(sizes[: tensor.dim()]) == tuple(tensor.shape)
        and (dtype, device) == (DTYPES[tensor.dtype], CPU)
        and (tensor.dim() > 0 or kept[tensor.dtype].value == tensor.item())
    )


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0
