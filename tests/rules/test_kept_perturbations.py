"""SG407 on weights that are moved up the gradient before the step, and stay there or do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from seismograd.record.reader import open_run  # noqa: E402
from seismograd.schema import FactKind  # noqa: E402
from tests.rules.programs import Listen, Program, adam, batch, mlp, sgd  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402

STEPS = 72
Move = Callable[[list[Tensor], list[Tensor]], list[Tensor]]  # of weights and their gradients


def by_the_norm(_: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
    """As SAM."""
    size = torch.stack([g.norm() for g in gradients]).norm()
    return [g * (0.05 / size) for g in gradients]


def by_each_norm(_: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
    """As FGM, of the first two weights."""
    return [g * (0.02 / g.norm() if i < 3 else 0.0) for i, g in enumerate(gradients)]


def by_a_rate(_: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
    return [0.05 * g for g in gradients]


def down(weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
    return [-each for each in by_the_norm(weights, gradients)]


def at_random(weights: list[Tensor], _: list[Tensor]) -> list[Tensor]:
    return [0.01 * torch.randn(p.shape) / p.numel() ** 0.5 for p in weights]


def perturbed(
    move: Move, back: str = "", clears: bool = True, one_line: bool = False, base: bool = False
) -> Program:
    """Two backwards a step; `back`: `before` or `after` the step, else never. `base`: another
    optimizer holds the same weights, as that of SAM around it.
    """

    def program(listen: Listen) -> None:
        model = mlp(3, nn.Tanh)
        optimizer = adam(model, 1e-3) if one_line else sgd(model, 0.02)
        outer = [torch.optim.SGD(model.parameters(), 0.1)] if base else []
        weights = list(model.parameters())

        def loss(step: int) -> Tensor:
            x, labels = batch(step)
            return F.cross_entropy(model(x), labels)

        def compute(step: int) -> None:
            loss(step).backward()

        with listen(model, optimizer, *outer):
            for step in range(STEPS):
                optimizer.zero_grad()
                compute(step) if one_line else loss(step).backward()
                moves = move(weights, [p.grad.clone() for p in weights if p.grad is not None])
                torch._foreach_add_([p.data for p in weights], moves)
                if clears:
                    optimizer.zero_grad()
                compute(step) if one_line else loss(step).backward()
                if back == "before":
                    torch._foreach_sub_([p.data for p in weights], moves)
                optimizer.step()
                if back == "after":
                    torch._foreach_sub_([p.data for p in weights], moves)

    return program


FAULTY = {
    "SAM": perturbed(by_the_norm),
    "SAM around another optimizer": perturbed(by_the_norm, base=True),
    "SAM, one line": perturbed(by_the_norm, one_line=True),
    "each weight, both gradients": perturbed(by_each_norm, clears=False),
}
HEALTHY = {
    "taken back before the step": perturbed(by_the_norm, "before"),
    "taken back before the step, around another": perturbed(by_the_norm, "before", base=True),
    "taken back after the step": perturbed(by_the_norm, "after"),
    "each weight, taken back": perturbed(by_each_norm, "before", clears=False),
    "a step of its own, up": perturbed(by_a_rate, base=True),
    "down": perturbed(down, base=True),
    "noise": perturbed(at_random, base=True),
}


@pytest.mark.parametrize("program", FAULTY.values(), ids=FAULTY)
def test_a_perturbation_that_is_kept_is_found(program: Program, tmp_path: Path) -> None:
    findings = judged(program, tmp_path / "run")
    assert [finding.code for finding in findings] == ["SG407"]
    assert "up the gradient" in findings[0].cause.render()
    assert findings[0].parameters
    assert "optimizer.step()" in findings[0].excerpt
    assert not [note for note in open_run(tmp_path / "run").notes if note.kind == "failure"]


@pytest.mark.parametrize("program", HEALTHY.values(), ids=HEALTHY)
def test_others_are_not(program: Program, tmp_path: Path) -> None:
    judged(program, tmp_path / "run")
    run = open_run(tmp_path / "run")
    facts = [fact for fact in run.facts if fact.kind == FactKind.KEPT_PERTURBATION]
    assert all(fact.number("times") < 2 for fact in facts)
    assert not [note for note in run.notes if note.kind == "failure"]
