"""Tensors to pictures."""

from __future__ import annotations

import math

from PIL import Image
from torch import Tensor


def save_image(pictures: Tensor, path: str, nrow: int = 8, normalize: bool = False) -> None:
    """Save a batch of pictures  # (N, C, H, W), `nrow` in a row."""
    if normalize:
        low, high = pictures.min(), pictures.max()
        pictures = (pictures - low) / (high - low).clamp(min=1e-5)
    num, channels, height, width = pictures.shape
    rows = math.ceil(num / nrow)
    sheet = pictures.new_zeros(rows * nrow, channels, height, width)
    sheet[:num] = pictures
    sheet = sheet.view(rows, nrow, channels, height, width).permute(0, 3, 1, 4, 2)
    sheet = sheet.reshape(rows * height, nrow * width, channels)
    whole = sheet.detach().mul(255).clamp(0, 255).byte().expand(-1, -1, 3).contiguous()
    Image.fromarray(whole.numpy()).save(path)
