"""Training programs with an optimizer or scaler too many, and healthy ones that look like them, in
several styles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.rules.programs import WIDTH, Listen, Program, adam, batch, mlp, sgd

Optimizer = torch.optim.Optimizer


def loss_of(model: nn.Module, step: int) -> Tensor:
    x, labels = batch(step)
    return F.cross_entropy(model(x), labels)


def one_for_each_batch(listen: Listen) -> None:
    model = mlp(3, nn.Tanh)

    def train_batch(step: int) -> None:
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()

    with listen(model):
        for step in range(40):
            train_batch(step)


class Trainer:
    """Keeps the one it has made last; the gradients are cleared by the model."""

    def __init__(self, make: Callable[[nn.Module], Optimizer], per_epoch: int = 10) -> None:
        self.model, self.make, self.per_epoch = mlp(3, nn.Tanh), make, per_epoch
        self.optimizer: Optimizer | None = None

    def epoch(self, number: int) -> None:
        self.optimizer = self.make(self.model)
        for step in range(self.per_epoch):
            self.model.zero_grad()
            loss_of(self.model, number * self.per_epoch + step).backward()
            self.optimizer.step()

    def __call__(self, listen: Listen) -> None:
        with listen(self.model):
            for number in range(8):
                self.epoch(number)


def halved_scaler(init_scale: float, per_epoch: bool, per_step: bool = False) -> Program:
    """Mixed precision on the CPU, with a limit on what float16 would hold."""

    def program(listen: Listen) -> None:
        model = mlp(3, nn.Tanh)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        scaler = torch.amp.GradScaler("cpu", init_scale=init_scale)
        with listen(model, optimizer):
            for epoch in range(6):
                if per_epoch:
                    scaler = torch.amp.GradScaler("cpu", init_scale=init_scale)
                for step in range(16):
                    if per_step:
                        scaler = torch.amp.GradScaler("cpu", init_scale=init_scale)
                    optimizer.zero_grad()
                    x, labels = batch(16 * epoch + step)
                    with torch.autocast("cpu", dtype=torch.float16):
                        out = model(x)
                    scaler.scale(F.cross_entropy(out.float(), labels)).backward()
                    scaler.step(optimizer)
                    scaler.update()

    return program


def shared_encoder(
    lists: Callable[[nn.Module, nn.Module, nn.Module], tuple[Any, Any]], separate: bool = False
) -> Program:
    """Two heads on one encoder, with an optimizer for each task; `separate` backwards."""

    def program(listen: Listen) -> None:
        encoder, first, second = (
            mlp(2, nn.Tanh, outputs=WIDTH),
            nn.Linear(WIDTH, 4),
            mlp(1, nn.Tanh),
        )
        ours, theirs = lists(encoder, first, second)
        tasks = torch.optim.Adam(ours, lr=1e-3), torch.optim.Adam(theirs, lr=2e-3)
        with listen(encoder, first, second, *tasks):
            for step in range(40):
                hidden = encoder(batch(step)[0])
                losses = [F.cross_entropy(head(hidden), batch(step)[1]) for head in (first, second)]
                if separate:
                    for optimizer, loss in zip(tasks, losses, strict=True):
                        optimizer.zero_grad()
                        loss.backward(retain_graph=True, inputs=optimizer.param_groups[0]["params"])
                    for optimizer in tasks:
                        optimizer.step()
                    continue
                for optimizer in tasks:
                    optimizer.zero_grad()
                sum(losses).backward()  # type: ignore[union-attr]
                for optimizer in tasks:
                    optimizer.step()

    return program


def second_over_all(listen: Listen) -> None:
    """The head was to have its own learning rate."""
    model = mlp(3, nn.ReLU)
    body, head = adam(model, 1e-3), torch.optim.AdamW(model[4].parameters(), lr=1e-3)
    with listen(model, body, head):
        for step in range(40):
            loss_of(model, step).backward()
            body.step()
            head.step()
            body.zero_grad()
            head.zero_grad()


class Lookahead(Optimizer):
    """Steps another optimizer within its own step, and pulls the weights back now and then."""

    def __init__(self, base: Optimizer) -> None:
        self.base, self.num = base, 0
        super().__init__([p for g in base.param_groups for p in g["params"]], {})
        self.slow = [p.detach().clone() for p in self.param_groups[0]["params"]]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.base.step()
        self.num += 1
        if self.num % 5 == 0:
            with torch.no_grad():
                for slow, p in zip(self.slow, self.param_groups[0]["params"], strict=True):
                    slow.lerp_(p, 0.5)
                    p.copy_(slow)


def looking_ahead(listen: Listen) -> None:
    model = mlp(3, nn.Tanh)
    optimizer = Lookahead(sgd(model, lr=0.05))
    with listen(model, optimizer, optimizer.base):
        for step in range(40):
            optimizer.zero_grad()
            loss_of(model, step).backward()
            optimizer.step()


def in_phases(listen: Listen) -> None:
    """First Adam, then SGD, then more of the model."""
    model = mlp(3, nn.Tanh)
    makers: list[Callable[[], Optimizer]] = [
        lambda: torch.optim.Adam(model[4].parameters(), lr=3e-3),
        lambda: torch.optim.Adam([*model[2].parameters(), *model[4].parameters()], lr=3e-3),
        lambda: torch.optim.Adam(model.parameters(), lr=1e-3),
        lambda: torch.optim.SGD(model.parameters(), lr=0.05),
    ]
    with listen(model):
        for number, make in enumerate(makers):
            optimizer = make()
            held = {id(p) for p in optimizer.param_groups[0]["params"]}
            for p in model.parameters():
                p.requires_grad_(id(p) in held)
            for step in range(20):
                model.zero_grad()
                loss_of(model, 20 * number + step).backward()
                optimizer.step()


def each_fold(listen: Listen) -> None:
    """A new model with a new optimizer, five times."""
    with listen():
        for fold in range(5):
            model = mlp(3, nn.Tanh)
            optimizer = adam(model)
            for step in range(24):
                optimizer.zero_grad()
                loss_of(model, 31 * fold + step).backward()
                optimizer.step()


def alternating(listen: Listen) -> None:
    """Two optimizers over the same weights, each with backwards of its own."""
    model = mlp(3, nn.Tanh)
    both = [torch.optim.SGD(model.parameters(), lr=0.05), adam(model, 1e-3)]
    with listen(model, *both):
        for step in range(40):
            optimizer = both[step // 10 % 2]
            optimizer.zero_grad()
            loss_of(model, step).backward()
            optimizer.step()


def programs() -> Iterator[tuple[str, str, Program]]:
    yield "one for each batch", "SG404", one_for_each_batch
    yield "one for each epoch", "SG404", Trainer(lambda m: torch.optim.AdamW(m.parameters(), 1e-3))
    yield "momentum for each epoch", "SG404", Trainer(lambda m: sgd(m, 0.05), per_epoch=6)
    yield "scaler for each epoch", "SG204", halved_scaler(2.0**24, per_epoch=True)
    yield "scaler for each step", "SG204", halved_scaler(2.0**40, False, per_step=True)
    yield "scaler for each epoch, higher", "SG204", halved_scaler(2.0**30, per_epoch=True)
    yield "scaler for each epoch, beyond float16", "SG204", halved_scaler(2.0**40, per_epoch=True)
    yield (
        "encoder in both",
        "SG405",
        shared_encoder(
            lambda e, a, b: ([*e.parameters(), *a.parameters()], [*e.parameters(), *b.parameters()])
        ),
    )
    yield "second over all", "SG405", second_over_all


FAULTY = {name: (code, program) for name, code, program in programs()}


def folds(listen: Listen) -> None:
    """A cross-validation: the first weights again, and a new optimizer."""
    model = mlp(3, nn.Tanh)
    blank = {name: value.clone() for name, value in model.state_dict().items()}
    with listen(model):
        for fold in range(6):
            model.load_state_dict(blank)
            optimizer = adam(model)
            for step in range(12):
                optimizer.zero_grad()
                loss_of(model, 12 * fold + step).backward()
                optimizer.step()


HEALTHY: dict[str, Program] = {
    "folds": folds,
    "plain for each epoch": Trainer(lambda m: torch.optim.SGD(m.parameters(), 0.05)),
    "one scaler": halved_scaler(2.0**16, per_epoch=False),
    "scaler that needs no search": halved_scaler(2.0**10, per_epoch=True),
    "encoder in one": shared_encoder(
        lambda e, a, b: ([*e.parameters(), *a.parameters()], [*b.parameters()])
    ),
    "looking ahead": looking_ahead,
    "in phases": in_phases,
    "each fold": each_fold,
    "alternating": alternating,
}
