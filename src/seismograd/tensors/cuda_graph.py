"""CUDA graphs: what must not be done while one is captured."""

from __future__ import annotations

import torch


def is_capturing() -> bool:
    """Whether a CUDA graph is being captured: nothing can be read then, and the attempt would
    make the capture fail.
    """
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()
