"""Pictures with labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset


class FakeData(Dataset[tuple[Any, int]]):
    """Random pictures, the same for the same number."""

    def __init__(
        self,
        size: int = 1000,
        image_size: tuple[int, int, int] = (3, 224, 224),
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        self.size, self.image_size, self.transform = size, image_size, transform

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Any, int]:
        draw = np.random.default_rng(index)
        channels, height, width = self.image_size
        picture = Image.fromarray(draw.integers(0, 256, (height, width, channels), dtype=np.uint8))
        return self.transform(picture) if self.transform else picture, int(draw.integers(10))


class MNIST(Dataset[tuple[Any, int]]):
    """The digits in `root`/MNIST/raw."""

    def __init__(
        self,
        root: str,
        train: bool = True,
        download: bool = False,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        folder, part = Path(root) / "MNIST" / "raw", "train" if train else "t10k"
        pictures = np.fromfile(folder / f"{part}-images-idx3-ubyte", np.uint8)
        self.pictures = pictures[16:].reshape(-1, 28, 28)
        self.labels = np.fromfile(folder / f"{part}-labels-idx1-ubyte", np.uint8)[8:]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        picture = Image.fromarray(self.pictures[index])
        return self.transform(picture) if self.transform else picture, int(self.labels[index])
