"""Training programs whose weights, rate or schedule something else than the optimizer sets, and
healthy ones that look like them, in several styles.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.rules.programs import Listen, Program, adam, batch, mlp, sgd

EPOCHS, BATCHES = 6, 12
Optimizer = torch.optim.Optimizer
Between = Callable[[nn.Module, Optimizer, int], object]


def train_step(model: nn.Module, optimizer: Optimizer, step: int) -> None:
    x, labels = batch(step)
    optimizer.zero_grad()
    F.cross_entropy(model(x), labels).backward()
    optimizer.step()


def saved(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


class Average:
    """An exponential moving average as many scripts have it."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {n: p.data.clone() for n, p in model.named_parameters()}
        self.backup: dict[str, Tensor] = {}

    def update(self, model: nn.Module) -> None:
        for name, p in model.named_parameters():
            self.shadow[name] = (1 - self.decay) * p.data + self.decay * self.shadow[name]

    def swap_in(self, model: nn.Module) -> None:
        for name, p in model.named_parameters():
            self.backup[name] = p.data
            p.data = self.shadow[name].clone()

    def swap_out(self, model: nn.Module) -> None:
        for name, p in model.named_parameters():
            p.data = self.backup[name]


def averaged(restore: bool, decay: float = 0.98, in_place: bool = False) -> Program:
    """Validates an average after each epoch."""

    def program(listen: Listen) -> None:
        model = mlp(3, nn.Tanh)
        optimizer, average = adam(model), Average(model, decay)
        with listen(model, optimizer):
            for epoch in range(EPOCHS):
                for step in range(BATCHES):
                    train_step(model, optimizer, BATCHES * epoch + step)
                    average.update(model)
                if in_place:
                    for name, p in model.named_parameters():
                        p.data.copy_(average.shadow[name])
                else:
                    average.swap_in(model)
                with torch.no_grad():
                    model(batch(999)[0])
                if restore:
                    average.swap_out(model)

    return program


class Around(Optimizer):
    """The base of optimizers around another, as many make it: none that torch's hooks hear. It has
    no groups of its own: where there is a class that keeps some, all objects are searched.
    """

    param_groups = property(lambda self: self.base.param_groups)  # pyright: ignore
    state = property(lambda self: self.base.state)  # pyright: ignore

    def __init__(self, base: Optimizer) -> None:
        self.base = base
        self.begun = [p.detach().clone() for p in self.weights()]
        self.num_steps = 0

    def weights(self) -> list[Tensor]:
        return [p for group in self.base.param_groups for p in group["params"]]

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.base.zero_grad(set_to_none)


class PassesOn(Around):
    """As that of Accelerate."""

    def step(self) -> None:
        self.base.step()


class ScalesBack(Around):
    """Goes back to where it has begun now and then, within its own step (TRAC)."""

    @torch.no_grad()
    def step(self) -> None:
        self.base.step()
        self.num_steps += 1
        if self.num_steps % 10 == 0:
            self.scale_back()

    def scale_back(self) -> None:
        for p, begun in zip(self.weights(), self.begun, strict=True):
            p.data.copy_(begun)


def around(make: Callable[[Optimizer], Optimizer], restore: bool = True) -> Program:
    """An optimizer around another; an average is validated after each epoch."""

    def program(listen: Listen) -> None:
        model = mlp(3, nn.Tanh)
        base, average = adam(model), Average(model, 0.98)
        optimizer = make(base)
        with listen(model, base):
            for epoch in range(EPOCHS):
                for step in range(BATCHES):
                    train_step(model, optimizer, BATCHES * epoch + step)
                    average.update(model)
                average.swap_in(model)
                if restore:
                    average.swap_out(model)

    return program


def between_epochs(
    change: Callable[[dict[str, Tensor]], Between],
    optimize: Callable[[nn.Module], Optimizer] = adam,
    batches: int = BATCHES,
    epochs: int = EPOCHS,
) -> Program:
    """Epochs, and something before each; `change` is given the weights of the beginning."""

    def program(listen: Listen) -> None:
        model = mlp(3, nn.Tanh)
        between, optimizer = change(saved(model)), optimize(model)
        with listen(model, optimizer):
            for epoch in range(epochs):
                between(model, optimizer, epoch)
                for step in range(batches):
                    train_step(model, optimizer, batches * epoch + step)

    return program


def loaded_each_time(first: dict[str, Tensor]) -> Between:
    return lambda model, optimizer, epoch: model.load_state_dict(first)


def loaded_at_first(first: dict[str, Tensor]) -> Between:
    return lambda model, optimizer, epoch: epoch == 0 and model.load_state_dict(first)


def another_training(first: dict[str, Tensor]) -> Between:
    """Each fold begins anew, weights and optimizer."""

    def begin(model: nn.Module, optimizer: Optimizer, epoch: int) -> None:
        if epoch == 0:
            begin.blank = copy.deepcopy(optimizer.state_dict())  # type: ignore[attr-defined]
        model.load_state_dict(first)
        optimizer.load_state_dict(begin.blank)  # type: ignore[attr-defined]

    return begin


def reptile(first: dict[str, Tensor]) -> Between:
    """Goes a fifth of the way that the inner steps have made."""

    def outer(model: nn.Module, optimizer: Optimizer, epoch: int) -> None:
        now = saved(model)
        for name in first:
            first[name] = first[name] + 0.2 * (now[name] - first[name])
        model.load_state_dict(first)

    return outer


def clamped(first: dict[str, Tensor]) -> Between:
    def clamp(model: nn.Module, optimizer: Optimizer, epoch: int) -> None:
        with torch.no_grad():
            for p in model.parameters():
                p.clamp_(-0.05, 0.05)

    return clamp


def limited(first: dict[str, Tensor]) -> Between:
    """Rows of a limited norm."""

    def limit(model: nn.Module, optimizer: Optimizer, epoch: int) -> None:
        with torch.no_grad():
            for p in model.parameters():
                if p.ndim > 1:
                    p.copy_(torch.renorm(p, 2, 0, 0.5))

    return limit


def unit_columns(first: dict[str, Tensor]) -> Between:
    def divide(model: nn.Module, optimizer: Optimizer, epoch: int) -> None:
        for p in model.parameters():
            if p.ndim > 1:
                p.data.div_(p.data.norm(dim=0, keepdim=True))

    return divide


def noisy(first: dict[str, Tensor]) -> Between:
    generator = torch.Generator().manual_seed(1)

    def shake(model: nn.Module, optimizer: Optimizer, epoch: int) -> None:
        with torch.no_grad():
            for p in model.parameters():
                p.add_(1e-3 * torch.randn(p.shape, generator=generator))

    return shake


def target_network(backwards: bool) -> Program:
    """Fits its own slow copy, which is refreshed now and then; no function, no epochs."""

    def program(listen: Listen) -> None:
        model = mlp(3, nn.ReLU, outputs=1)
        target = copy.deepcopy(model)
        optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
        with listen(model, optimizer):
            for step in range(60):
                x, _ = batch(step)
                with torch.no_grad():
                    wanted = x[:, :1] + 0.5 * target(x.flip(0))
                loss = F.smooth_l1_loss(model(x), wanted)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if step % 12 == 11:
                    one, other = (model, target) if backwards else (target, model)
                    one.load_state_dict(other.state_dict())

    return program


def opposed(listen: Listen) -> None:
    """Two optimizers in turn over the same weights; the second takes back what the first does."""
    model = mlp(3, nn.Tanh)
    ours, theirs = sgd(model, 0.05, 0.0), sgd(model, 0.04, 0.0)
    with listen(model, ours, theirs):
        for step in range(40):
            train_step(model, ours, step)
            x, labels = batch(step)
            theirs.zero_grad()
            (-F.cross_entropy(model(x), labels)).backward()
            theirs.step()


def spectral(listen: Listen) -> None:
    model = nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Linear(16, 16)), nn.ReLU(), nn.Linear(16, 4)
    )
    optimizer = sgd(model, lr=0.05)
    with listen(model, optimizer):
        for step in range(40):
            train_step(model, optimizer, step)


class Ascent:
    """Sharpness-aware: a second gradient, at weights that are moved and then moved back."""

    def __init__(self, model: nn.Module, rho: float) -> None:
        self.weights, self.rho = list(model.parameters()), rho
        self.moves: list[Tensor] = []

    def up(self) -> None:
        gradients = [p.grad for p in self.weights if p.grad is not None]
        size = torch.stack([g.norm() for g in gradients]).norm()
        self.moves = [g * (self.rho / size) for g in gradients]
        torch._foreach_add_([p.data for p in self.weights], self.moves)

    def down(self) -> None:
        torch._foreach_sub_([p.data for p in self.weights], self.moves)


class Slow:
    """The slow weights of Lookahead."""

    def __init__(self, model: nn.Module, part: float) -> None:
        self.weights, self.part = list(model.parameters()), part
        self.slow = [p.detach().clone() for p in self.weights]

    def catch_up(self) -> None:
        with torch.no_grad():
            for p, slow in zip(self.weights, self.slow, strict=True):
                slow.add_(p - slow, alpha=self.part)
                p.copy_(slow)


def changed_at_each_step(
    kind: str, optimize: Callable[[nn.Module], Optimizer], slowly: bool = True
) -> Program:
    """Lookahead, or an average that is never taken out, over weights that something else changes at
    each step: `ascent`, `decay` by hand or `mask`.
    """

    def program(listen: Listen) -> None:
        model = mlp(3, nn.Tanh)
        masks = [(p.detach().abs() > 0.05).float() for p in model.parameters()]
        if kind == "mask":
            torch._foreach_mul_([p.data for p in model.parameters()], masks)
        optimizer, slow, average = optimize(model), Slow(model, 0.5), Average(model, 0.98)
        ascent = Ascent(model, 0.05)
        with listen(model, optimizer):
            for step in range(EPOCHS * BATCHES):
                if kind == "ascent":
                    x, labels = batch(step)
                    optimizer.zero_grad()
                    F.cross_entropy(model(x), labels).backward()
                    ascent.up()
                    optimizer.zero_grad()
                    F.cross_entropy(model(x), labels).backward()
                    ascent.down()
                    optimizer.step()
                else:
                    train_step(model, optimizer, step)
                for p, mask in zip(model.parameters(), masks, strict=True):
                    if kind == "decay":
                        p.data.mul_(1 - 1e-3)
                    elif kind == "mask":
                        p.data.mul_(mask)
                average.update(model)
                if slowly and step % 6 == 5:
                    slow.catch_up()
                elif not slowly and step % BATCHES == BATCHES - 1:
                    average.swap_in(model)

    return program


def resumed(
    saved_lr: float, schedule: str = "none", state: str = "all", given: float = 1e-3
) -> Program:
    """Goes on from a checkpoint; `schedule`: `none`, `loaded`, `new`, `told` or `caught up`."""

    def program(listen: Listen) -> None:
        torch.manual_seed(0)
        model = mlp(3, nn.Tanh)
        old = torch.optim.Adam(model.parameters(), lr=3e-3 if schedule != "none" else saved_lr)
        old_plan = torch.optim.lr_scheduler.StepLR(old, 4, 0.5) if schedule != "none" else None
        for step in range(10):
            train_step(model, old, step)
            if old_plan is not None:
                old_plan.step()
        checkpoint = copy.deepcopy(old.state_dict())
        plan_state = None if old_plan is None else copy.deepcopy(old_plan.state_dict())
        del old, old_plan
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3 if schedule != "none" else given)
        with listen(model, optimizer):
            plan = None
            if schedule in ("new", "loaded", "caught up"):
                plan = torch.optim.lr_scheduler.StepLR(optimizer, 4, 0.5)
            optimizer.load_state_dict(checkpoint)
            if schedule == "told":
                plan = torch.optim.lr_scheduler.StepLR(optimizer, 4, 0.5, last_epoch=10)
            if schedule == "loaded" and plan is not None and plan_state is not None:
                plan.load_state_dict(plan_state)
            if schedule == "caught up" and plan is not None:
                for group in optimizer.param_groups:
                    group["lr"] = group["initial_lr"]
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # torch warns of a step before the optimizer's
                    for _ in range(10):
                        plan.step()
            if state == "rate set":
                for group in optimizer.param_groups:
                    group["lr"] = given
            for step in range(10, 34):
                train_step(model, optimizer, step)
                if plan is not None:
                    plan.step()

    return program


def given_back(listen: Listen) -> None:
    """Loads the optimizer's own state, as accelerate does, during a warm-up from zero."""
    model = mlp(3, nn.Tanh)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with listen(model, optimizer):
        plan = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 4))
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        for step in range(24):
            train_step(model, optimizer, step)
            plan.step()


caught_up = resumed(0.0, "caught up")
FAULTY: dict[str, tuple[str, Program]] = {
    "average not restored": ("SG407", averaged(restore=False)),
    "average not restored, an optimizer around": ("SG407", around(PassesOn, restore=False)),
    "average copied in place": ("SG407", averaged(restore=False, in_place=True)),
    "checkpoint each epoch": ("SG407", between_epochs(loaded_each_time)),
    "checkpoint, momentum": ("SG407", between_epochs(loaded_each_time, sgd, 20, 5)),
    "average, moved at each step": ("SG407", changed_at_each_step("ascent", sgd, slowly=False)),
    "average, decayed by hand": ("SG407", changed_at_each_step("decay", adam, slowly=False)),
    "target copied back": ("SG407", target_network(backwards=True)),
    "rate of the checkpoint": ("SG404", resumed(1e-2, given=1e-4)),
    "rate that had come to nothing": ("SG404", resumed(1e-9)),
    "rate of a decayed schedule": ("SG404", resumed(4e-7, given=2e-3)),
    "schedule not loaded": ("SG113", resumed(0.0, "new")),
}
HEALTHY: dict[str, Program] = {
    "average restored": averaged(restore=True),
    "scaled back by an optimizer around": around(ScalesBack),
    "loaded at first": between_epochs(loaded_at_first),
    "another training": between_epochs(another_training),
    "reptile": between_epochs(reptile, sgd),
    "lookahead, moved at each step": changed_at_each_step("ascent", sgd),
    "lookahead, decayed by hand": changed_at_each_step("decay", adam),
    "lookahead, masked": changed_at_each_step("mask", adam),
    "clamped": between_epochs(clamped, batches=1, epochs=40),
    "limited": between_epochs(limited, batches=1, epochs=40),
    "unit columns": between_epochs(unit_columns, sgd, batches=1, epochs=40),
    "noisy": between_epochs(noisy, batches=1, epochs=40),
    "target network": target_network(backwards=False),
    "spectral norm": spectral,
    "opposed": opposed,
    "resumed": resumed(1e-3),
    "resumed, lower rate": resumed(1e-4),
    "resumed, rate set": resumed(1e-2, state="rate set", given=1e-4),
    "schedule loaded": resumed(0.0, "loaded"),
    "schedule told": resumed(0.0, "told"),
    "given back": given_back,
}
