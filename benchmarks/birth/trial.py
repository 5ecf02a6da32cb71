"""One training with one fault, and what the record says of it."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import seismograd
from benchmarks.birth.architectures import (
    ARCHITECTURES,
    BATCH,
    CHANNELS,
    CLASSES,
    LENGTH,
    SIZE,
    VOCABULARY,
    Architecture,
)
from benchmarks.birth.faults import IN_LOSSES, IN_MODELS, FaultKind
from seismograd.record.reader import open_run
from seismograd.schema import Fact, FactKind

STEP = 3  # at which the fault shows
FAILING = (1, 6)  # samples
NAN = float("nan")
MODEL, LOSS, DATA, WEIGHT = "model", "loss", "data", "weights"


@dataclass(frozen=True, slots=True)
class Trial:
    """A fault in an architecture. `reasons`: those that are right where no operation is at
    fault.
    """

    place: str
    fault: str
    architecture: type[Architecture]
    kind: FaultKind | None = None
    reasons: tuple[str, ...] = ()
    marked: bool = False


@dataclass(frozen=True, slots=True)
class TrialScore:
    """What was named rightly; `None`: there is nothing to name."""

    operation: bool
    line: bool | None
    samples: bool | None


def trials() -> Iterator[Trial]:
    """Yield every fault in every architecture that it fits."""
    for architecture in ARCHITECTURES:
        for kind in IN_MODELS:
            yield Trial(MODEL, kind.name, architecture, kind, marked=kind.marked)
        for kind in IN_LOSSES:
            yield Trial(LOSS, kind.name, architecture, kind, marked=kind.marked)
        if architecture.kind != "tokens":
            yield Trial(DATA, "NaN in the input", architecture, None, ("input",), marked=True)
            yield Trial(DATA, "infinity in the input", architecture, None, ("input",), marked=True)
        yield Trial(WEIGHT, "corrupt before training", architecture, None, ("weight",))
        yield Trial(WEIGHT, "corrupt between steps", architecture, None, ("written",))
        yield Trial(WEIGHT, "exploded rate", architecture, None, ("update", "overflow"))
    yield Trial(WEIGHT, "eps zero in float16", ARCHITECTURES[0], None, ("eps",))


def score(trial: Trial) -> tuple[TrialScore | None, Fact | None]:
    """Train, and compare what the record says with what was put in; `None` where the fault does
    not show.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        shows = _train(trial, path)
        facts = [fact for fact in open_run(path).facts if fact.kind == FactKind.BIRTH]
    fact = facts[0] if facts else None
    if fact is None:
        nothing = TrialScore(False, False if trial.kind else None, False if trial.marked else None)
        return nothing if shows else None, None
    if trial.kind is not None:
        operation = fact.text("operation") in trial.kind.operations
        line: bool | None = fact.where.endswith(f":{_line_of(trial.kind)}")
    else:
        operation, line = fact.text("reason") in trial.reasons, None
    wanted = " ".join(map(str, FAILING))
    samples = fact.text("samples") == wanted if trial.marked else None
    return TrialScore(operation, line, samples), fact


def _line_of(kind: FaultKind) -> int:
    lines, first = inspect.getsourcelines(kind.function)
    return first + next(i for i, line in enumerate(lines) if "# fault" in line)


def _train(trial: Trial, path: Path) -> bool:
    """Train, and return whether a loss or a gradient was not finite."""
    shows = False
    torch.manual_seed(0)
    in_model = trial.kind.function if trial.place == MODEL and trial.kind else None
    model = trial.architecture(in_model)
    optimizer = _optimizer(trial, model)
    loss_of: Callable[[Tensor, Tensor, Tensor], Tensor] = (
        trial.kind.function if trial.place == LOSS and trial.kind else _classify
    )
    with seismograd.watch(model, optimizer, out=path):
        for step in range(STEP + (9 if trial.fault == "exploded rate" else 3)):
            x, labels = _input(trial.architecture.kind), torch.randint(CLASSES, (BATCH,))
            mark = torch.ones(BATCH)
            if step == STEP:
                mark[list(FAILING)] = 0
                _spoil(trial, x, model, optimizer)
            if trial.fault == "corrupt before training" and step == 0:
                _corrupt(model)
            if trial.fault.startswith("eps"):
                x, mark = x.half(), mark.half()
            optimizer.zero_grad()
            loss = loss_of(model(x, mark), labels, mark)
            loss.backward()
            seen = [loss, *(p.grad for p in model.parameters() if p.grad is not None)]
            shows = shows or not all(bool(torch.isfinite(each).all()) for each in seen)
            optimizer.step()
    return shows


def _optimizer(trial: Trial, model: nn.Module) -> torch.optim.Optimizer:
    if trial.fault.startswith("eps"):
        return torch.optim.Adam(model.half().parameters(), 1e-3, eps=1e-8)
    return torch.optim.SGD(model.parameters(), 0.01)


def _spoil(trial: Trial, x: Tensor, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    if trial.place == DATA:
        x[list(FAILING)] = NAN if trial.fault.startswith("NaN") else float("inf")
    elif trial.fault == "corrupt between steps":
        _corrupt(model)
    elif trial.fault == "exploded rate":
        optimizer.param_groups[0]["lr"] = 1e38


def _corrupt(model: nn.Module) -> None:
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] = NAN


def _input(kind: str) -> Tensor:
    if kind == "images":
        return torch.randn(BATCH, CHANNELS, SIZE, SIZE)
    if kind == "tokens":
        return torch.randint(VOCABULARY, (BATCH, LENGTH))
    return torch.randn(BATCH, LENGTH)


def _classify(out: Tensor, labels: Tensor, _: Tensor) -> Tensor:
    return F.cross_entropy(out, labels)
