"""CUDA graphs: avoid what is not allowed during a capture."""

from __future__ import annotations

import torch


def is_capturing() -> bool:
    """Return whether a CUDA graph is being captured: nothing can be read then, and the attempt
    would make the capture fail.
    """
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()
