"""SG307, SG308 and SG310 on programs with a DataLoader and with accelerate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

import seismograd  # noqa: E402
from seismograd.schema import Finding  # noqa: E402
from tests.rules.programs import adam, batch, mlp  # noqa: E402


def data(num_batches: int) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*batch(0, 16 * num_batches)), batch_size=16)


def found(path: Path, train: Callable[[], object]) -> list[Finding]:
    with seismograd.watch(out=path) as session:
        train()
    return [each for each in session.findings if each.severity != "info"]


def accumulated(num_batches: int, epochs: int, window: int = 4) -> Callable[[], object]:
    """Counts over all epochs, so that only the end of the program leaves anything."""

    def train() -> None:
        model, loader = mlp(2, nn.Tanh), data(num_batches)
        optimizer, count = adam(model), 0
        for _ in range(epochs):
            for x, labels in loader:
                (F.cross_entropy(model(x), labels) / window).backward()
                count += 1
                if count % window == 0:
                    optimizer.step()
                    optimizer.zero_grad()

    return train


def test_what_every_epoch_would_lose_is_a_warning(tmp_path: Path) -> None:
    (finding,) = found(tmp_path / "run", accumulated(26, epochs=1))
    assert (finding.code, finding.severity) == ("SG308", "warning")
    assert "the epoch has 26 batches, and each step uses 4" in finding.cause.render()


@pytest.mark.parametrize(("num_batches", "epochs"), [(24, 1), (13, 2), (26, 3)])
def test_what_only_the_end_of_the_program_leaves_is_none(
    num_batches: int, epochs: int, tmp_path: Path
) -> None:
    assert found(tmp_path / "run", accumulated(num_batches, epochs)) == []


@pytest.mark.parametrize(
    ("window", "divide", "code", "excerpt"),
    [
        (4, True, "SG310", "accelerator.backward(loss)"),
        (1, False, "SG307", "accelerator = Accelerator(gradient_accumulation_steps=4)"),
        (4, False, "", ""),
    ],
)
def test_with_accelerate_the_advice_is_in_its_terms(
    window: int, divide: bool, code: str, excerpt: str, tmp_path: Path
) -> None:
    accelerate = pytest.importorskip("accelerate")

    def train() -> None:
        accelerator = accelerate.Accelerator(gradient_accumulation_steps=window, cpu=True)
        model, loader = mlp(2, nn.Tanh), data(24)
        model, optimizer, loader = accelerator.prepare(model, adam(model), loader)
        for number, (x, labels) in enumerate(loader):
            with accelerator.accumulate(model):
                loss = F.cross_entropy(model(x), labels)
                accelerator.backward(loss / 4 if divide else loss)
                if window == 4 or number % 4 == 3:
                    optimizer.step()
                    optimizer.zero_grad()

    findings = found(tmp_path / "run", train)
    assert [(each.code, each.excerpt) for each in findings] == ([(code, excerpt)] if code else [])


@pytest.mark.parametrize(("by_hand", "severity"), [(False, "info"), (True, "warning")])
def test_a_short_window_that_accelerate_ends_is_only_information(
    by_hand: bool, severity: str, tmp_path: Path
) -> None:
    accelerate = pytest.importorskip("accelerate")
    with seismograd.watch(out=tmp_path / "run") as recording:
        accelerator = accelerate.Accelerator(
            gradient_accumulation_steps=1 if by_hand else 4, cpu=True
        )
        model, loader = mlp(2, nn.Tanh), data(26)
        model, optimizer, loader = accelerator.prepare(model, adam(model), loader)
        for _ in range(3):
            for number, (x, labels) in enumerate(loader):
                loss = F.cross_entropy(model(x), labels)
                if by_hand:
                    accelerator.backward(loss / 4)
                    if number % 4 == 3 or number == 25:
                        optimizer.step()
                        optimizer.zero_grad()
                    continue
                with accelerator.accumulate(model):
                    accelerator.backward(loss)
                    optimizer.step()
                    optimizer.zero_grad()
    (short,) = (each for each in recording.findings if each.code == "SG308")
    assert short.severity == severity
    assert short.excerpt.startswith("accelerator.backward(loss / 2)") is by_hand
