"""Save the gradients of one moment in a file of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor


def save_gradients(gradients: Mapping[str, Tensor], path: Path) -> None:
    """Write gradients by name to one safetensors file, dense and on the CPU."""
    # Only a training that is stopped writes one.
    from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]

    save_file({name: _dense_copy(gradient) for name, gradient in gradients.items()}, path)


def _dense_copy(gradient: Tensor) -> Tensor:
    """Return a dense copy in memory of its own: safetensors refuses tensors that share memory."""
    return gradient.detach().to_dense().cpu().contiguous().clone()
