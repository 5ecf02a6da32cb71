"""Programs whose whole outcome is printed: every loss to the last bit, and a digest of weights,
optimizer state and random state.

python programs.py NAME [--watch DIR]
"""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

STEPS = 12


def digits() -> tuple[Tensor, Tensor]:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
    from small_net import SHIPPED_DIGITS, read_digits  # type: ignore[import-not-found]

    return read_digits(SHIPPED_DIGITS, "t10k")


def small_net() -> tuple[nn.Module, Callable[[int], Tensor]]:
    from_example = digits()
    from small_net import SmallNet  # type: ignore[import-not-found]

    model = SmallNet()
    images, labels = from_example

    def loss(step: int) -> Tensor:
        batch = slice(64 * step, 64 * step + 64)
        return nn.functional.cross_entropy(model(images[batch]), labels[batch])

    return model, loss


def cnn() -> tuple[nn.Module, Callable[[int], Tensor]]:
    images, labels = digits()
    layers = (
        nn.Conv2d(1, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Conv2d(8, 8, 3, stride=2),
        nn.BatchNorm2d(8),
    )
    model = nn.Sequential(
        *layers, nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8 * 6 * 6, 10)
    )

    def loss(step: int) -> Tensor:
        batch = torch.randint(0, len(images), (32,))
        return nn.functional.cross_entropy(model(images[batch].view(-1, 1, 28, 28)), labels[batch])

    return model, loss


def transformer() -> tuple[nn.Module, Callable[[int], Tensor]]:
    layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)
    model = nn.ModuleDict(
        {
            "embed": nn.Embedding(50, 32),
            "body": nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
            "head": nn.Linear(32, 50),
        }
    )

    def loss(step: int) -> Tensor:
        tokens = (torch.randint(0, 50, (8, 1)) + torch.arange(17)) % 50
        mask = nn.Transformer.generate_square_subsequent_mask(16)
        out = model["head"](
            model["body"](model["embed"](tokens[:, :-1]), mask=mask, is_causal=True)
        )
        return nn.functional.cross_entropy(out.flatten(0, 1), tokens[:, 1:].flatten())

    return model, loss


def lstm() -> tuple[nn.Module, Callable[[int], Tensor]]:
    model = nn.ModuleDict(
        {
            "rnn": nn.LSTM(4, 24, num_layers=2, dropout=0.2, batch_first=True),
            "out": nn.Linear(24, 1),
        }
    )

    def loss(step: int) -> Tensor:
        x = torch.randn(16, 10, 4)
        return nn.functional.mse_loss(
            model["out"](model["rnn"](x)[0][:, -1]).squeeze(1), x.sum((1, 2))
        )

    return model, loss


PROGRAMS = {"small_net": small_net, "cnn": cnn, "transformer": transformer, "lstm": lstm}


def train(name: str, watch: str | None) -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  what scripts use
    torch.manual_seed(0)
    model, loss_at = PROGRAMS[name]()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    recording = None
    if watch is not None:
        import seismograd

        recording = seismograd.watch(model, optimizer, out=watch, quiet=True)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = loss_at(step)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        print(step, loss.item().hex())
    if recording is not None:
        recording.close()
    tensors = [
        *model.state_dict().values(),
        *(v for s in optimizer.state_dict()["state"].values() for v in s.values()),
    ]
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().numpy().tobytes())
    digest.update(torch.get_rng_state().numpy().tobytes())
    digest.update(repr(random.getstate()).encode())
    digest.update(np.random.get_state()[1].tobytes())  # type: ignore[union-attr]  # noqa: NPY002
    print(
        len(tensors),
        digest.hexdigest(),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
        torch.get_default_dtype(),
    )


if __name__ == "__main__":
    train(sys.argv[1], sys.argv[3] if len(sys.argv) > 3 else None)
