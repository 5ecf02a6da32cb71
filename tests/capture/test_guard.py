"""`guard=True`: an update whose gradients are not finite or have exploded is not made; all others
are made as without it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import seismograd
from seismograd.capture.guard import update_judge
from seismograd.record.reader import Run
from seismograd.rules.sg103.sg103_gradient_spike import GradientSpike
from seismograd.schema import StepFlag

NUM_STEPS, BAD = 30, 20
Poison = Callable[[int, torch.Tensor, nn.Module], torch.Tensor]


def undefined(step: int, loss: torch.Tensor, model: nn.Module) -> torch.Tensor:
    """A finite loss with a NaN in its gradient at one step."""
    weight = next(model.parameters())
    return loss + 0 * torch.sqrt(0 * weight.sum()) if step == BAD else loss


def huge(step: int, loss: torch.Tensor, model: nn.Module) -> torch.Tensor:
    del model
    return loss * 1e6 if step == BAD else loss


def healthy(step: int, loss: torch.Tensor, model: nn.Module) -> torch.Tensor:
    del step, model
    return loss


def make(kind: type[torch.optim.Optimizer], **settings: Any) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    return model, kind(model.parameters(), **settings)  # pyright: ignore


def batches(num: int = NUM_STEPS) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(8, 4, generator=generator) for _ in range(num)]


def train(
    model: nn.Module, optimizer: Any, poison: Poison, skip: int = -1, num: int = NUM_STEPS
) -> list[list[torch.Tensor]]:
    """The weights after each step; `skip`: a step that the program itself leaves out."""
    weights: list[list[torch.Tensor]] = []
    for step, x in enumerate(batches(num)):
        optimizer.zero_grad()
        loss = poison(step, (model(x) - x.sum(1, keepdim=True)).square().mean(), model)
        loss.backward()
        if step != skip:
            optimizer.step()
        weights.append([p.detach().clone() for p in model.parameters()])
    return weights


def same(ours: list[list[torch.Tensor]], theirs: list[list[torch.Tensor]]) -> bool:
    return all(
        torch.equal(a, b)
        for a_step, b_step in zip(ours, theirs, strict=True)
        for a, b in zip(a_step, b_step, strict=True)
    )


def guarded_steps(run: Run) -> list[int]:
    return run.steps["iteration"][run.steps["flags"] & int(StepFlag.GUARDED) != 0].tolist()


OPTIMIZERS: list[tuple[type[torch.optim.Optimizer], dict[str, Any]]] = [
    (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}),
    (torch.optim.Adam, {"lr": 0.01}),
    (torch.optim.AdamW, {"lr": 0.01, "fused": True}),
    (torch.optim.Adagrad, {"lr": 0.01}),
    (torch.optim.RMSprop, {"lr": 0.01}),
]


@pytest.mark.parametrize(("kind", "settings"), OPTIMIZERS)
@pytest.mark.parametrize("poison", [undefined, huge])
def test_a_harmful_update_is_as_if_the_program_had_left_it_out(
    tmp_path: Path, kind: type[torch.optim.Optimizer], settings: dict[str, Any], poison: Poison
) -> None:
    theirs = train(*make(kind, **settings), poison, skip=BAD)
    model, optimizer = make(kind, **settings)
    with seismograd.watch(model, optimizer, out=tmp_path / "run", guard=True, quiet=True):
        ours = train(model, optimizer, poison)
    run = seismograd.open_run(tmp_path / "run")
    assert guarded_steps(run) == [BAD]
    assert same(ours, theirs)
    assert np.isnan(run.steps["applied_norm"][BAD])
    assert not [note for note in run.notes if note.kind == "failure"]


def test_without_guard_every_update_is_made(tmp_path: Path) -> None:
    theirs = train(*make(torch.optim.SGD, lr=0.05), undefined)
    model, optimizer = make(torch.optim.SGD, lr=0.05)
    with seismograd.watch(model, optimizer, out=tmp_path / "run", quiet=True):
        ours = train(model, optimizer, undefined)
    assert guarded_steps(seismograd.open_run(tmp_path / "run")) == []
    assert ours[-1][0].isnan().all()
    assert theirs[-1][0].isnan().all()


@pytest.mark.parametrize(("kind", "settings"), OPTIMIZERS)
def test_a_healthy_training_has_the_same_bits(
    tmp_path: Path, kind: type[torch.optim.Optimizer], settings: dict[str, Any]
) -> None:
    theirs = train(*make(kind, **settings), healthy)
    model, optimizer = make(kind, **settings)
    with seismograd.watch(model, optimizer, out=tmp_path / "run", guard=True, quiet=True):
        ours = train(model, optimizer, healthy)
    assert guarded_steps(seismograd.open_run(tmp_path / "run")) == []
    assert same(ours, theirs)


def test_what_was_left_out_is_told_with_its_birth(tmp_path: Path) -> None:
    from seismograd.views.guarded_updates import guarded_lines

    model, optimizer = make(torch.optim.SGD, lr=0.05)
    with seismograd.watch(model, optimizer, out=tmp_path / "run", guard=True, quiet=True):
        train(model, optimizer, undefined)
    run = seismograd.open_run(tmp_path / "run")
    assert [finding.code for finding in run.findings] == ["SG201"]  # the cause is still there
    first, why = guarded_lines(run)
    assert first == f"the guard left out 1 of {NUM_STEPS} updates, at step {BAD}"
    assert why.startswith(f"step {BAD}: the gradients were not finite: `sqrt` at ")


def test_an_explosion_is_told_with_its_size(tmp_path: Path) -> None:
    from seismograd.views.guarded_updates import guarded_lines

    model, optimizer = make(torch.optim.SGD, lr=0.01)
    with seismograd.watch(model, optimizer, out=tmp_path / "run", guard=True, quiet=True):
        train(model, optimizer, huge)
    run = seismograd.open_run(tmp_path / "run")
    (fact,) = [fact for fact in run.facts if fact.kind == "guarded"]
    assert fact.text("reason") == "exploded"
    assert fact.number("norm") == pytest.approx(float(run.steps["grad_norm"][BAD]), rel=1e-6)
    assert f"step {BAD}: the norm" in list(guarded_lines(run))[1]


def test_a_clip_makes_a_large_gradient_harmless(tmp_path: Path) -> None:
    def train_clipped(model: nn.Module, optimizer: Any) -> None:
        for step, x in enumerate(batches()):
            optimizer.zero_grad()
            huge(step, (model(x) - 1).square().mean(), model).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    model, optimizer = make(torch.optim.SGD, lr=0.01)
    with seismograd.watch(model, optimizer, out=tmp_path / "run", guard=True, quiet=True):
        train_clipped(model, optimizer)
    assert guarded_steps(seismograd.open_run(tmp_path / "run")) == []


def test_gradients_that_the_program_has_mended_are_used(tmp_path: Path) -> None:
    model, optimizer = make(torch.optim.SGD, lr=0.01)
    with seismograd.watch(model, optimizer, out=tmp_path / "run", guard=True, quiet=True):
        for step, x in enumerate(batches()):
            optimizer.zero_grad()
            undefined(step, (model(x) - 1).square().mean(), model).backward()
            for p in model.parameters():
                assert p.grad is not None
                p.grad.nan_to_num_()
            optimizer.step()
    assert guarded_steps(seismograd.open_run(tmp_path / "run")) == []


def test_updates_that_stay_large_are_made_after_ten(tmp_path: Path) -> None:
    model, optimizer = make(torch.optim.SGD, lr=1e-12)
    with seismograd.watch(model, optimizer, out=tmp_path / "run", guard=True, quiet=True):
        for step, x in enumerate(batches(60)):
            optimizer.zero_grad()
            loss = (model(x) - 1).square().mean()
            (loss * 1e6 if step >= BAD else loss).backward()
            optimizer.step()
    run = seismograd.open_run(tmp_path / "run")
    assert guarded_steps(run) == list(range(BAD, BAD + 10))
    assert [note.kind for note in run.notes if note.kind == "guard"] == ["guard"]


def test_a_window_of_micro_batches_is_left_out_as_a_whole(tmp_path: Path) -> None:
    def accumulate(model: nn.Module, optimizer: Any, skip: int = -1) -> list[list[torch.Tensor]]:
        weights: list[list[torch.Tensor]] = []
        for number, x in enumerate(batches(28)):
            loss = undefined(number, (model(x) - 1).square().mean() / 4, model)
            loss.backward()
            if number % 4 == 3:
                if number // 4 != skip:
                    optimizer.step()
                optimizer.zero_grad()
                weights.append([p.detach().clone() for p in model.parameters()])
        return weights

    theirs = accumulate(*make(torch.optim.Adam, lr=0.01), skip=BAD // 4)
    model, optimizer = make(torch.optim.Adam, lr=0.01)
    with seismograd.watch(model, optimizer, out=tmp_path / "run", guard=True, quiet=True):
        ours = accumulate(model, optimizer)
    run = seismograd.open_run(tmp_path / "run")
    assert guarded_steps(run) == [BAD // 4]
    assert same(ours, theirs)
    assert {finding.code for finding in run.findings} == {"SG201"}


def test_of_two_optimizers_only_the_one_concerned_leaves_its_step_out(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(4, 1), nn.Linear(4, 1)
    one = torch.optim.SGD(first.parameters(), lr=0.1)
    two = torch.optim.SGD(second.parameters(), lr=0.1)
    with seismograd.watch(first, second, one, two, out=tmp_path / "run", guard=True, quiet=True):
        for step, x in enumerate(batches()):
            one.zero_grad()
            two.zero_grad()
            loss = (first(x) - 1).square().mean() + (second(x) + 1).square().mean()
            undefined(step, loss, first).backward()
            before = second.weight.detach().clone()
            one.step()
            two.step()
            assert not torch.equal(before, second.weight)
    assert first.weight.isfinite().all()
    assert second.weight.isfinite().all()
    run = seismograd.open_run(tmp_path / "run")
    assert guarded_steps(run) == [BAD]
    assert not run.steps["flags"][BAD] & int(StepFlag.SKIPPED)  # the other one was made


def test_the_gradients_are_cleared_and_stay_tensors(tmp_path: Path) -> None:
    model, optimizer = make(torch.optim.SGD, lr=0.1)
    x = batches(1)[0]
    with seismograd.watch(model, optimizer, out=tmp_path / "run", guard=True, quiet=True):
        undefined(BAD, model(x).mean(), model).backward()
        gradients = [p.grad for p in model.parameters()]
        optimizer.step()
        for p, gradient in zip(model.parameters(), gradients, strict=True):
            assert p.grad is gradient
            assert gradient is not None
            assert not gradient.any()


def test_a_scheduler_warns_of_nothing_when_the_first_step_is_left_out(tmp_path: Path) -> None:
    model, optimizer = make(torch.optim.SGD, lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    x = batches(1)[0]
    with (
        warnings.catch_warnings(record=True) as warned,
        seismograd.watch(model, optimizer, out=tmp_path / "run", guard=True, quiet=True),
    ):
        warnings.simplefilter("always")
        for step in range(3):
            optimizer.zero_grad()
            undefined(BAD + step, model(x).mean(), model).backward()
            optimizer.step()
            scheduler.step()
    assert not [each for each in warned if "lr_scheduler" in str(each.message)]
    assert guarded_steps(seismograd.open_run(tmp_path / "run")) == [0]
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)


class TestClosures:
    def train(self, model: nn.Module, optimizer: Any, poison: Poison) -> list[float]:
        losses: list[float] = []
        for step, x in enumerate(batches()):

            def closure(step: int = step, x: torch.Tensor = x) -> torch.Tensor:
                optimizer.zero_grad()
                loss = poison(step, (model(x) - x.sum(1, keepdim=True)).square().mean(), model)
                loss.backward()
                return loss

            losses.append(float(optimizer.step(closure).detach()))
        return losses

    @pytest.mark.parametrize("poison", [undefined, huge])
    def test_a_step_that_evaluates_once(self, tmp_path: Path, poison: Poison) -> None:
        theirs, plain = make(torch.optim.Adam, lr=0.01)
        train(theirs, plain, poison, skip=BAD)
        model, optimizer = make(torch.optim.Adam, lr=0.01)
        with seismograd.watch(model, optimizer, out=tmp_path / "run", guard=True, quiet=True):
            losses = self.train(model, optimizer, poison)
        run = seismograd.open_run(tmp_path / "run")
        assert guarded_steps(run) == [BAD]
        assert len(losses) == NUM_STEPS  # the loss is returned as always
        for ours, other in zip(model.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(ours, other)
        assert "SG201" in {f.code for f in run.findings} or poison is huge

    def test_lbfgs_leaves_out_a_step_whose_first_evaluation_is_bad(self, tmp_path: Path) -> None:
        model, optimizer = make(torch.optim.LBFGS, lr=0.1, max_iter=5)
        with seismograd.watch(model, optimizer, out=tmp_path / "run", guard=True, quiet=True):
            self.train(model, optimizer, undefined)
        assert all(p.isfinite().all() for p in model.parameters())
        assert guarded_steps(seismograd.open_run(tmp_path / "run")) == [BAD]

    def test_lbfgs_has_the_same_bits_when_all_is_well(self, tmp_path: Path) -> None:
        theirs, plain = make(torch.optim.LBFGS, lr=0.1, line_search_fn="strong_wolfe")
        expected = self.train(theirs, plain, healthy)
        model, optimizer = make(torch.optim.LBFGS, lr=0.1, line_search_fn="strong_wolfe")
        with seismograd.watch(model, optimizer, out=tmp_path / "run", guard=True, quiet=True):
            assert self.train(model, optimizer, healthy) == expected

    def test_weights_that_the_step_has_moved_are_not_left_there(self, tmp_path: Path) -> None:
        class Perturbing(torch.optim.SGD):
            """Moves the weights, evaluates there, and moves them back."""

            def step(self, closure: Any = None) -> Any:  # pyright: ignore
                with torch.no_grad():
                    for group in self.param_groups:
                        for p in group["params"]:
                            p.add_(1.0)
                with torch.enable_grad():
                    loss = closure()
                with torch.no_grad():
                    for group in self.param_groups:
                        for p in group["params"]:
                            p.sub_(1.0)
                return loss

        model, optimizer = make(Perturbing, lr=0.0)
        before = [p.detach().clone() for p in model.parameters()]
        with seismograd.watch(model, optimizer, out=tmp_path / "run", guard=True, quiet=True):
            self.train(model, optimizer, undefined)
        for p, at_first in zip(model.parameters(), before, strict=True):
            assert torch.allclose(p, at_first, atol=1e-4)

    def test_an_exception_of_the_closure_is_the_programs(self, tmp_path: Path) -> None:
        model, optimizer = make(torch.optim.Adam, lr=0.01)

        def closure() -> torch.Tensor:
            raise ValueError("mine")

        with seismograd.watch(model, optimizer, out=tmp_path / "run", guard=True, quiet=True):
            train(model, optimizer, healthy, num=3)
            with pytest.raises(ValueError, match="mine"):
                optimizer.step(closure)
            train(model, optimizer, healthy, num=3)
        assert guarded_steps(seismograd.open_run(tmp_path / "run")) == []


@pytest.mark.parametrize("fused", [False, True])
def test_what_a_scaler_skips_is_the_scalers(tmp_path: Path, fused: bool) -> None:
    model, optimizer = make(torch.optim.Adam, lr=0.01, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    with seismograd.watch(model, optimizer, out=tmp_path / "run", guard=True, quiet=True):
        for step, x in enumerate(batches()):
            optimizer.zero_grad()
            loss = undefined(step, (model(x) - 1).square().mean(), model)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    run = seismograd.open_run(tmp_path / "run")
    assert guarded_steps(run) == []
    assert all(p.isfinite().all() for p in model.parameters())
    assert scaler.get_scale() == 4.0


def test_an_explosion_under_a_scaler_is_left_out(tmp_path: Path) -> None:
    model, optimizer = make(torch.optim.Adam, lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    with seismograd.watch(model, optimizer, out=tmp_path / "run", guard=True, quiet=True):
        for step, x in enumerate(batches()):
            optimizer.zero_grad()
            scaler.scale(huge(step, (model(x) - 1).square().mean(), model)).backward()
            scaler.step(optimizer)
            scaler.update()
    assert guarded_steps(seismograd.open_run(tmp_path / "run")) == [BAD]
    assert scaler.get_scale() == 8.0


def test_torch_is_as_before_afterwards(tmp_path: Path) -> None:
    from seismograd.capture.guard.step_bypass import StepBypass, _cell_of

    model, optimizer = make(torch.optim.SGD, lr=0.1)
    cell = _cell_of(torch.optim.SGD)
    assert cell is not None
    original = cell.cell_contents
    with seismograd.watch(model, optimizer, out=tmp_path / "run", guard=True, quiet=True):
        train(model, optimizer, undefined)

        def failing(*_: object) -> None:
            raise ValueError("a hook of the program's")

        handle = optimizer.register_step_pre_hook(failing)
        with pytest.raises(ValueError, match="a hook"):
            train(model, optimizer, lambda _, loss, m: undefined(BAD, loss, m), num=1)
        handle.remove()
        train(model, optimizer, healthy, num=2)  # nothing is left of the step that raised
        assert cell.cell_contents is original
    assert cell.cell_contents is original
    assert StepBypass().is_possible(optimizer)


def test_the_thresholds_are_those_of_the_rule_for_spikes() -> None:
    rule = GradientSpike()
    assert rule.window == update_judge.WINDOW
    assert rule.first_steps == update_judge.FIRST_UPDATES
    assert rule.min_alone == update_judge.MIN_FACTOR
    assert rule.min_deviations == update_judge.MIN_DEVIATIONS
    assert rule.above_largest == update_judge.ABOVE_LARGEST
    assert rule.longest == update_judge.LONGEST


class TestJudge:
    def judged(self, norms: list[float]) -> list[int]:
        judge = update_judge.UpdateJudge()
        return [i for i, norm in enumerate(norms) if judge.usual(norm) is not None]

    def test_the_first_updates_are_never_judged(self) -> None:
        assert self.judged([1.0] * 9 + [1e9]) == []
        assert self.judged([1.0] * 10 + [1e9]) == [10]

    def test_a_norm_that_was_not_measured_says_nothing(self) -> None:
        assert self.judged([1.0] * 10 + [float("nan"), 0.0, 1e9]) == [12]

    def test_a_training_that_has_converged_may_see_its_first_size_again(self) -> None:
        assert self.judged([1.0] * 10 + [1e-6] * 40 + [0.9]) == []

    def test_noisy_gradients_are_not_judged_by_their_median_alone(self) -> None:
        noisy = [10.0 ** ((7 * i) % 5 - 2) for i in range(40)]
        assert self.judged([*noisy, 150.0 * sorted(noisy)[20]]) == []

    def test_an_infinite_norm_of_finite_gradients_is_an_explosion(self) -> None:
        assert self.judged([1.0] * 10 + [float("inf")]) == [10]
