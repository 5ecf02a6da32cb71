"""The small network and the digits of the experiments: they come with seismograd, so nothing is
downloaded.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

FOLDER = Path(__file__).parent / "data" / "mnist"
IMAGES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
IMAGES_HEADER, LABELS_HEADER = 16, 8  # bytes of the IDX format before the numbers


class SmallNet(nn.Module):
    """784-256-10, as in examples/small_net.py."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 256)
        self.fc2 = nn.Linear(256, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return scores of the ten digits  # (B, 784) -> (B, 10)."""
        return self.fc2(F.relu(self.fc1(images)))


def small_net() -> SmallNet:
    """Return a network that is the same each time, whatever was drawn before; the state of the
    random numbers stays as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SmallNet()


def digits(count: int) -> tuple[Tensor, Tensor]:
    """Return the first images, from 0 to 1  # (count, 784), and their labels  # (count,)."""
    pixels = np.frombuffer(
        gzip.decompress((FOLDER / IMAGES).read_bytes()), np.uint8, offset=IMAGES_HEADER
    )
    labels = np.frombuffer(
        gzip.decompress((FOLDER / LABELS).read_bytes()), np.uint8, offset=LABELS_HEADER
    )
    images = pixels.reshape(-1, 784)[:count].astype(np.float32) / 255
    return torch.from_numpy(images), torch.from_numpy(labels[:count].astype(np.int64))


def cut(images: Tensor, labels: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    """Yield batches of `size` samples, and the rest."""
    return [
        (images[start : start + size], labels[start : start + size])
        for start in range(0, len(images), size)
    ]
