"""Pictures to tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor


class InterpolationMode(Enum):
    BILINEAR = Image.Resampling.BILINEAR


class Compose:
    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = transforms

    def __call__(self, picture: Any) -> Any:
        for transform in self.transforms:
            picture = transform(picture)
        return picture


class Lambda:
    def __init__(self, transform: Callable[[Any], Any]) -> None:
        self.transform = transform

    def __call__(self, picture: Any) -> Any:
        return self.transform(picture)


class Resize:
    def __init__(
        self,
        size: int,
        interpolation: InterpolationMode = InterpolationMode.BILINEAR,
    ) -> None:
        self.size, self.interpolation = size, interpolation

    def __call__(self, picture: Image.Image) -> Image.Image:
        return picture.resize((self.size, self.size), self.interpolation.value)


class RandomCrop:
    """At a random place; all that there is where it is no larger than that."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, picture: Image.Image) -> Image.Image:
        left, top = (int(torch.randint(0, side - self.size + 1, ())) for side in picture.size)
        return picture.crop((left, top, left + self.size, top + self.size))


class PILToTensor:
    def __call__(self, picture: Image.Image) -> Tensor:
        array = np.array(picture)
        array = array[:, :, None] if array.ndim == 2 else array
        return torch.from_numpy(array).permute(2, 0, 1).contiguous()


class ToTensor(PILToTensor):
    def __call__(self, picture: Image.Image) -> Tensor:
        return super().__call__(picture).float() / 255


class ConvertImageDtype:
    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __call__(self, picture: Tensor) -> Tensor:
        return picture.to(self.dtype) / 255


class Normalize:
    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean, self.std = (torch.tensor(numbers).view(-1, 1, 1) for numbers in (mean, std))

    def __call__(self, picture: Tensor) -> Tensor:
        return (picture - self.mean) / self.std
