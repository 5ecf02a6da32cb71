"""A small network that learns to read digits: plain PyTorch, 784-256-10.

python examples/small_net.py
python examples/small_net.py --data DIR     # a folder with the four MNIST files, compressed or not
"""

from __future__ import annotations

import argparse
import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHIPPED_DIGITS = (
    Path(__file__).resolve().parent.parent / "src" / "seismograd" / "lab" / "data" / "mnist"
)


class SmallNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 256)
        self.fc2 = nn.Linear(256, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc2(F.relu(self.fc1(images)))


def read_idx(folder: Path, name: str) -> np.ndarray:
    """An IDX file of bytes: two zeros, the type, the number of dimensions; each of them as a
    big-endian integer; the bytes.
    """
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            content = (
                gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            )
            if content[:4] not in (b"\0\0\x08\x01", b"\0\0\x08\x03"):
                raise ValueError(f"{path} is not an IDX file of bytes")
            shape = np.frombuffer(content, ">i4", count=content[3], offset=4)
            return np.frombuffer(
                content, np.uint8, count=int(np.prod(shape)), offset=4 + 4 * content[3]
            ).reshape(shape)
    raise ValueError(f"{folder} has neither {name} nor {name}.gz")


def read_digits(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Images  # (N, 784), from 0 to 1, and labels  # (N,)."""
    images, labels = (
        read_idx(folder, f"{part}-images-idx3-ubyte"),
        read_idx(folder, f"{part}-labels-idx1-ubyte"),
    )
    if len(images) != len(labels) or images[0].size != 784:
        raise ValueError(f"{folder}: {part} has {images.shape} images and {labels.shape} labels")
    return torch.tensor(images.reshape(-1, 784), dtype=torch.float32) / 255, torch.tensor(
        labels, dtype=torch.int64
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a small network on MNIST digits.")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="train on the four MNIST files in DIR, not on the 10,000 shipped digits",
    )
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--batch-size", type=int, default=64)
    args = parser.parse_args()
    try:
        if args.data is None:
            images, labels = read_digits(SHIPPED_DIGITS, "t10k")
            (images, test_images), (labels, test_labels) = (
                images.split([9000, 1000]),
                labels.split([9000, 1000]),
            )
        else:
            (images, labels), (test_images, test_labels) = (
                read_digits(args.data, "train"),
                read_digits(args.data, "t10k"),
            )
    except (OSError, EOFError, ValueError, zlib.error) as problem:
        parser.error(f"cannot read digits: {problem}")

    torch.manual_seed(0)
    model = SmallNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        losses = []
        for batch in torch.randperm(len(images)).split(args.batch_size):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"epoch {epoch}, loss={np.mean(losses):.4f}")

    with torch.no_grad():
        accuracy = (model(test_images).argmax(1) == test_labels).float().mean().item()
    print(f"{accuracy:.1%} of {len(test_images)} other digits read correctly")


if __name__ == "__main__":
    main()
