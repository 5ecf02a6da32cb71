"""A training that uses these functions as they are meant is healthy: no rule finds anything in
it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import seismograd
from seismograd.lab.digits import cut, digits, small_net
from seismograd.recording import Recording

STEPS = 60
Loop = Callable[[Path], Recording]


def uneven(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Micro-batches of 8 to 23 digits."""
    images, labels = digits(count * 16)
    parts, start = [], 0
    for number in range(count):
        size = 8 + number * 7 % 16
        parts.append((images[start : start + size], labels[start : start + size]))
        start += size
    return parts


def accumulating(out: Path, scaler: Any = None, **limit: Any) -> Recording:
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with seismograd.watch(model, optimizer, out=out) as session:
        for window in seismograd.accumulate(
            uneven(STEPS * 4 - 1), 4, model=model, optimizer=optimizer, scaler=scaler
        ):
            for images, labels in window:
                window.backward(F.cross_entropy(model(images), labels), weight=len(labels))
            window.step(**limit)
    return session


def plainly(out: Path) -> Recording:
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with (
        seismograd.watch(model, optimizer, out=out) as session,
        seismograd.accumulate(model=model, optimizer=optimizer) as window,
    ):
        for number, (images, labels) in enumerate(uneven(STEPS * 2)):
            window.backward(F.cross_entropy(model(images), labels), weight=len(labels))
            if number % 2:
                window.step(max_norm=5.0)
    return session


def clipping(out: Path, clip: Callable[[Any], object]) -> Recording:
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with seismograd.watch(model, optimizer, out=out) as session:
        for images, labels in cut(*digits(STEPS * 32), 32):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            clip(model.parameters())
            optimizer.step()
    return session


def comparing(out: Path) -> Recording:
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with seismograd.watch(model, optimizer, out=out) as session:
        for images, labels in cut(*digits(STEPS * 32), 32):
            optimizer.zero_grad()
            scores = model(images)
            seismograd.losses(
                session,
                digit=F.cross_entropy(scores, labels),
                calm=0.3 * (scores - scores.mean(1, keepdim=True)).abs().mean(),
            ).backward()
            optimizer.step()
    return session


LOOPS: dict[str, Loop] = {
    "accumulate": accumulating,
    "accumulate, clip": lambda out: accumulating(out, max_norm=5.0),
    "accumulate, ZClip": lambda out: accumulating(out, clip=seismograd.ZClip()),
    "accumulate, GradScaler": lambda out: accumulating(
        out, torch.amp.GradScaler("cpu", init_scale=1024.0), max_norm=5.0
    ),
    "accumulate as an object": plainly,
    "clip_grad_norm_": lambda out: clipping(
        out, lambda parameters: seismograd.clip_grad_norm_(parameters, 5.0)
    ),
    "clip_grad_unit_": lambda out: clipping(
        out, lambda parameters: seismograd.clip_grad_unit_(parameters, 0.5)
    ),
    "AutoClip": lambda out: clipping(out, seismograd.AutoClip(percentile=95)),
    "losses": comparing,
}


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS.keys())
def test_no_rule_finds_anything(loop: Loop, tmp_path: Path) -> None:
    session = loop(tmp_path / "run")
    assert [(finding.code, finding.cause.render()) for finding in session.findings] == []
    run = seismograd.open_run(tmp_path / "run")
    assert len(run.steps) == STEPS
    assert run.notes == ()
    assert run.steps["loss"][-10:].mean() < run.steps["loss"][:10].mean() * 0.8  # it learns
