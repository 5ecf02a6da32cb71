"""Training programs whose learning rate schedule does not fit, and healthy ones that look like
them, in several styles.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import lr_scheduler as schedules
from torch.utils.data import DataLoader, TensorDataset

from tests.rules.programs import WIDTH, Listen, Program, batch, mlp, sgd

EPOCHS, BATCHES = 6, 16
STEPS = EPOCHS * BATCHES
LONG = 140  # steps
Make = Callable[[torch.optim.Optimizer], Any]


def slices(_: int) -> Iterator[tuple[Tensor, Tensor]]:
    return (batch(step) for step in range(BATCHES))


def loader() -> DataLoader[Any]:
    x, y = batch(0, 16 * BATCHES - 3)
    return DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)


def training(
    make: Make,
    per: str = "batch",
    with_loader: bool = False,
    windows: int = 1,
    first: bool = False,
    lr: float = 0.05,
) -> Program:
    """Epochs over batches; the scheduler is stepped after each of what it is `per`, or `first`."""

    def program(listen: Listen) -> None:
        model = mlp(3, nn.Tanh)
        optimizer = sgd(model, lr=lr)
        scheduler = make(optimizer)
        data = loader() if with_loader else None
        with listen(model, optimizer), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            for epoch in range(EPOCHS):
                if first and per == "epoch":
                    scheduler.step()
                for number, (x, y) in enumerate(slices(epoch) if data is None else data, 1):
                    (F.cross_entropy(model(x), y) / windows).backward()
                    if number % windows:
                        continue
                    if first and per == "batch":
                        scheduler.step()
                    optimizer.step()
                    optimizer.zero_grad()
                    if per == "batch" and not first:
                        scheduler.step()
                if per == "epoch" and not first:
                    scheduler.step()

    return program


def lambda_to_zero(total: int) -> Make:
    return lambda o: schedules.LambdaLR(o, lambda step: max(0.0, 1 - step / total))


def regression(make: Make, lr: float = 0.01) -> Program:
    """A linear function of the input, which a rate that is too high never fits."""

    def program(listen: Listen) -> None:
        model = mlp(2, nn.Tanh, outputs=1)
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        scheduler = make(optimizer)
        generator = torch.Generator().manual_seed(0)
        weights = torch.randn(WIDTH, generator=generator)
        with listen(model, optimizer), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            for _ in range(LONG):
                x = torch.randn(64, WIDTH, generator=generator)
                optimizer.zero_grad()
                F.mse_loss(model(x).squeeze(1), x @ weights).backward()
                optimizer.step()
                scheduler.step()

    return program


def growing(optimizer: torch.optim.Optimizer) -> Any:
    def grown(step: int) -> float:
        return 1.0 + 2.0 * step

    return schedules.LambdaLR(optimizer, lr_lambda=grown)


def tested(step: int) -> float:
    """Rates from 1e-7 to 1e3, as a test for the highest usable one takes them."""
    return 10 ** (10 * step / LONG)


def warmed_up(step: int) -> float:
    return min(1.0, (step + 1) / 60)


class Linear:
    """A function object, as in scripts that write their own schedule."""

    def __init__(self, num_warmup: int, total_steps: int) -> None:
        self.num_warmup, self.total_steps = num_warmup, total_steps

    def __call__(self, step: int) -> float:
        if step < self.num_warmup:
            return (step + 1) / self.num_warmup
        return max(0.0, (self.total_steps - step) / (self.total_steps - self.num_warmup))


def warmed(optimizer: torch.optim.Optimizer, warm_up: int, total: int) -> Any:
    return schedules.SequentialLR(
        optimizer,
        [
            schedules.LinearLR(optimizer, 0.1, total_iters=warm_up),
            schedules.CosineAnnealingLR(optimizer, total - warm_up),
        ],
        [warm_up],
    )


def on_plateau(
    mode: str, metric: Callable[[float, float], float], lr: float = 0.02, **options: Any
) -> Program:
    """A class with a validation after each epoch, which gives (loss, accuracy)."""

    def program(listen: Listen) -> None:
        model = mlp(3, nn.Tanh)
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        plateau = schedules.ReduceLROnPlateau(optimizer, mode=mode, patience=1, **options)
        x, y = batch(777, 256)
        with listen(model, optimizer):
            for step in range(120):
                optimizer.zero_grad()
                F.cross_entropy(model(batch(step)[0]), batch(step)[1]).backward()
                optimizer.step()
                if step % 10 == 9:
                    with torch.no_grad():
                        out = model(x)
                        accuracy = float((out.argmax(1) == y).float().mean())
                        plateau.step(metric(F.cross_entropy(out, y).item(), accuracy))

    return program


def of_another(listen: Listen) -> None:
    """The optimizer was made again, the scheduler has the old one."""
    model = mlp(3, nn.Tanh)
    old = sgd(model)
    scheduler = schedules.StepLR(old, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    with listen(model, optimizer, old), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for step in range(40):
            optimizer.zero_grad()
            F.cross_entropy(model(batch(step)[0]), batch(step)[1]).backward()
            optimizer.step()
            scheduler.step()


def begun_anew(listen: Listen) -> None:
    model = mlp(3, nn.Tanh)
    optimizer = sgd(model, lr=0.05)

    def train_epoch(epoch: int) -> None:
        warm = schedules.LinearLR(optimizer, 0.1, total_iters=10)
        for x, y in slices(epoch):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            warm.step()
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]

    with listen(model, optimizer):
        for epoch in range(EPOCHS):
            train_epoch(epoch)


def several_at_once(listen: Listen) -> None:
    """Two optimizers and a chain, stepped in one line."""
    model, head = mlp(3, nn.Tanh), nn.Linear(4, 4)
    optimizers = [sgd(model, lr=0.05), sgd(head, lr=0.05)]
    all_of_them = [schedules.ExponentialLR(each, 0.99) for each in optimizers for _ in range(3)]
    with listen(model, head, *optimizers):
        for step in range(40):
            for each in optimizers:
                each.zero_grad()
            F.cross_entropy(head(model(batch(step)[0])), batch(step)[1]).backward()
            for each in optimizers:
                each.step()
            for schedule in all_of_them:
                schedule.step()


class Stages:
    """Trains the head, then everything, with a schedule that was made for the first stage."""

    def __init__(self, kind: str, per: str) -> None:
        self.kind, self.per = kind, per
        self.model = mlp(3, nn.Tanh)
        self.model[0].requires_grad_(requires_grad=False)
        self.renew(0.02)
        self.plan = schedules.CosineAnnealingLR(self.optimizer, STEPS if per == "batch" else EPOCHS)

    def renew(self, lr: float) -> None:
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(trained, lr=lr, momentum=0.9)

    def thaw(self) -> None:
        self.model[0].requires_grad_(requires_grad=True)
        if self.kind == "added":
            self.optimizer.add_param_group({"params": list(self.model[0].parameters())})
            return
        self.renew(0.015)
        if self.kind == "renewed":
            self.plan = schedules.CosineAnnealingLR(self.optimizer, STEPS)

    def fit(self) -> None:
        for step in range(STEPS):
            if step == 2 * BATCHES:
                self.thaw()
            if self.kind == "by hand" and step > 2 * BATCHES:
                self.optimizer.param_groups[0]["lr"] *= 0.98
            x, y = batch(step)
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(x), y).backward()
            self.optimizer.step()
            if self.per == "batch" or step % BATCHES == BATCHES - 1:
                self.plan.step()


def in_stages(kind: str, per: str = "batch") -> Program:
    """The second stage has an optimizer of its own, a new schedule (`renewed`) or a rate `by hand`;
    or the first one is given what was `added`.
    """

    def program(listen: Listen) -> None:
        stages = Stages(kind, per)
        with listen(stages.model), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            stages.fit()

    return program


def in_turn(listen: Listen) -> None:
    """Two optimizers over the same weights take turns; one of them has a schedule."""
    model = mlp(3, nn.Tanh)
    coarse, fine = sgd(model, lr=0.05), sgd(model, lr=0.01, momentum=0.0)
    plan = schedules.CosineAnnealingLR(coarse, STEPS)
    with listen(model, coarse, fine), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for step in range(STEPS):
            x, y = batch(step)
            optimizer = fine if step % 4 == 3 else coarse
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            plan.step()


def of_another_in_a_function(listen: Listen) -> None:
    """The scheduler is gone when the program ends."""

    def train(model: nn.Module, optimizer: torch.optim.Optimizer, scheduler: Any) -> None:
        for step in range(30):
            optimizer.zero_grad()
            F.cross_entropy(model(batch(step)[0]), batch(step)[1]).backward()
            optimizer.step()
            if step % 5 == 4:
                scheduler.step()

    model = mlp(3, nn.Tanh)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    with listen(model, optimizer), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        train(model, optimizer, schedules.StepLR(sgd(model), 10))


def resumed(listen: Listen) -> None:
    """Half of a training, and the other half from its checkpoint, in one process."""

    def half(model: nn.Module, saved: dict[str, Any] | None) -> dict[str, Any]:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        scheduler = schedules.CosineAnnealingLR(optimizer, 60)
        if saved is not None:
            model.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
            scheduler.load_state_dict(saved["scheduler"])
        for step in range(30):
            optimizer.zero_grad()
            F.cross_entropy(model(batch(step)[0]), batch(step)[1]).backward()
            optimizer.step()
            scheduler.step()
        return {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
        }

    with listen():
        half(mlp(3, nn.Tanh), half(mlp(3, nn.Tanh), None))


def finished(listen: Listen) -> None:
    """A new training with the state of a schedule that is over."""
    model = mlp(3, nn.Tanh)
    optimizer = sgd(model, lr=0.05)
    scheduler = lambda_to_zero(40)(optimizer)
    scheduler.load_state_dict({**scheduler.state_dict(), "last_epoch": 40})
    optimizer.param_groups[0]["lr"] = 0.0
    with listen(model, optimizer):
        for step in range(30):
            optimizer.zero_grad()
            F.cross_entropy(model(batch(step)[0]), batch(step)[1]).backward()
            optimizer.step()
            scheduler.step()


def never_stepped(listen: Listen) -> None:
    model = mlp(3, nn.Tanh)
    optimizer = sgd(model, lr=0.05)
    with listen(model, optimizer):
        scheduler = schedules.LambdaLR(optimizer, lambda step: min(1.0, step / 10))
        for step in range(30):
            optimizer.zero_grad()
            F.cross_entropy(model(batch(step)[0]), batch(step)[1]).backward()
            optimizer.step()
    assert scheduler.last_epoch == 0


def as_rate(step: int) -> float:
    return 0.05 * 0.99**step


MISMATCHED: dict[str, Program] = {
    "cosine in epochs, per batch": training(lambda o: schedules.CosineAnnealingLR(o, EPOCHS)),
    "cosine in epochs, per batch, loader": training(
        lambda o: schedules.CosineAnnealingLR(o, T_max=EPOCHS), with_loader=True
    ),
    "to zero in epochs, per batch": training(lambda_to_zero(EPOCHS)),
    "object in epochs, loader": training(
        lambda o: schedules.LambdaLR(o, Linear(1, EPOCHS)), with_loader=True
    ),
    "polynomial in epochs": training(lambda o: schedules.PolynomialLR(o, total_iters=EPOCHS)),
    "step in epochs, per batch": training(lambda o: schedules.StepLR(o, 5, gamma=0.1)),
    "exponential per batch": training(lambda o: schedules.ExponentialLR(o, 0.7)),
    "milestones in epochs, per batch": training(
        lambda o: schedules.MultiStepLR(o, [3, 5], gamma=0.3)
    ),
    "steps far too steep, per epoch": training(
        lambda o: schedules.StepLR(o, 1, gamma=0.01), per="epoch"
    ),
    "a cosine that ends at its top": training(
        lambda o: schedules.CosineAnnealingLR(o, EPOCHS // 2), per="epoch"
    ),
    "a cosine over and over again, per epoch": training(
        lambda o: schedules.CosineAnnealingLR(o, EPOCHS // 3), per="epoch"
    ),
    "of another optimizer, in a function": of_another_in_a_function,
    "one cycle in batches, per epoch": training(
        lambda o: schedules.OneCycleLR(o, 0.05, total_steps=STEPS), per="epoch"
    ),
    "warm-up and cosine in batches, per epoch": training(
        lambda o: warmed(o, 20, STEPS), per="epoch", with_loader=True
    ),
    "one cycle in samples, loader": training(
        lambda o: schedules.OneCycleLR(
            o, 0.05, epochs=EPOCHS, steps_per_epoch=16 * BATCHES - 3, div_factor=2
        ),
        with_loader=True,
    ),
    "cosine in samples": training(lambda o: schedules.CosineAnnealingLR(o, 32 * STEPS)),
    "one cycle in micro-batches": training(
        lambda o: schedules.OneCycleLR(o, 0.05, total_steps=STEPS, div_factor=2), windows=4
    ),
    "before the optimizer": training(lambda o: schedules.StepLR(o, 500), first=True),
    "before the epoch": training(
        lambda o: schedules.CosineAnnealingLR(o, EPOCHS + 1), per="epoch", first=True
    ),
    "of another optimizer": of_another,
    "of an optimizer that was replaced": in_stages("left"),
    "of an optimizer that was replaced, per epoch": in_stages("left", per="epoch"),
    "begun anew": begun_anew,
    "finished, and loaded": finished,
    "never stepped": never_stepped,
    "a rate in place of a factor": training(lambda o: schedules.LambdaLR(o, lr_lambda=as_rate)),
    "a warm-up of rates in place of factors": training(
        lambda o: schedules.LambdaLR(
            o, lambda step: 0.02 * min((step + 1) / 8, 3 / (step + 1) ** 0.5)
        )
    ),
    "a warm-up longer than the training": training(
        lambda o: schedules.LambdaLR(o, lambda step: min(1.0, (step + 1) / 1000))
    ),
    "maximum of a loss": on_plateau("max", lambda loss, _: loss),
    "minimum of an accuracy": on_plateau("min", lambda _, accuracy: 100 * accuracy, lr=0.01),
}

# rates that grow until the loss explodes
GROWING: dict[str, Program] = {
    "a factor without end": regression(
        lambda o: schedules.LambdaLR(o, lambda step: 1 + step**2 / 20)
    ),
    "a factor of a function": regression(growing),
    "a gamma above 1": regression(lambda o: schedules.ExponentialLR(o, gamma=1.08)),
    "doubled": regression(lambda o: schedules.StepLR(o, 10, gamma=2.0)),
}
# trainings whose loss explodes at a rate that is as high as it was meant to be
HIGH: dict[str, Program] = {
    "a test of rates": regression(lambda o: schedules.LambdaLR(o, tested), lr=1e-7),
    "a warm-up to a high rate": regression(lambda o: schedules.LambdaLR(o, warmed_up), lr=4.0),
    "one cycle to a high rate": regression(
        lambda o: schedules.OneCycleLR(o, 4.0, total_steps=LONG, cycle_momentum=False)
    ),
    "cyclic, to a high rate": regression(
        lambda o: schedules.CyclicLR(o, 0.01, 4.0, step_size_up=70, cycle_momentum=False)
    ),
}
HEALTHY: dict[str, Program] = {
    "another stage, another schedule": in_stages("renewed"),
    "another stage, rates by hand": in_stages("by hand"),
    "another stage of one optimizer": in_stages("added"),
    "two optimizers in turn": in_turn,
    "a warm-up beyond the rate": training(
        lambda o: schedules.LambdaLR(o, lambda step: min(40.0, 1 + step)), lr=1e-3
    ),
    "growing, and learning": training(lambda o: schedules.ExponentialLR(o, gamma=1.03), lr=1e-3),
    "cosine per batch": training(lambda o: schedules.CosineAnnealingLR(o, STEPS)),
    "cosine per epoch": training(
        lambda o: schedules.CosineAnnealingLR(o, EPOCHS), per="epoch", with_loader=True
    ),
    "cosine per epoch, and once back up": training(
        lambda o: schedules.CosineAnnealingLR(o, 4), per="epoch", with_loader=True
    ),
    "restarts": training(lambda o: schedules.CosineAnnealingWarmRestarts(o, 8)),
    "cyclic": training(
        lambda o: schedules.CyclicLR(o, 0.01, 0.05, step_size_up=8, cycle_momentum=False)
    ),
    "one cycle": training(lambda o: schedules.OneCycleLR(o, 0.1, total_steps=STEPS)),
    "one cycle, stopped": training(lambda o: schedules.OneCycleLR(o, 0.05, total_steps=10_000)),
    "to zero": training(lambda_to_zero(STEPS), with_loader=True),
    "warm-up and cosine": training(lambda o: warmed(o, 10, STEPS)),
    "most of a warm-up": training(
        lambda o: schedules.LambdaLR(o, lambda step: min(1.0, (step + 1) / 200))
    ),
    "warm-up alone": training(lambda o: schedules.LinearLR(o, 0.1, total_iters=5)),
    "step per epoch": training(lambda o: schedules.StepLR(o, 2), per="epoch"),
    "milestones in batches": training(lambda o: schedules.MultiStepLR(o, [60, 80])),
    "windows": training(lambda o: schedules.OneCycleLR(o, 0.1, total_steps=STEPS // 4), windows=4),
    "minimum of a loss": on_plateau("min", lambda loss, _: loss, cooldown=1),
    "maximum of an accuracy": on_plateau("max", lambda _, accuracy: accuracy),
    "a factor equal to the rate at first": training(
        lambda o: schedules.LambdaLR(o, lambda step: 0.05 if step < 10 else 1.0)
    ),
    "several at once": several_at_once,
    "resumed in the same process": resumed,
}
