"""Loops whose steps evaluate the loss themselves, with one fault each or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.rules.loops_at_fault import Loop, Optimizer, loop, quarter, uneven
from tests.rules.programs import Listen, Program, classify, mlp, sgd

Loss = Callable[[nn.Module, int], Tensor]


def alone(*, before: bool = False, limit: float | None = None, clear: str = "before") -> Loop:
    """One backward a step, within the closure; clipped `before` it or after, cleared before or
    after.
    """

    def body(model: nn.Module, optimizer: Optimizer) -> None:
        for step in range(50):

            def closure(step: int = step) -> Tensor:
                if clear == "before":
                    optimizer.zero_grad()
                loss = classify(model, step)
                if before and limit is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), limit)
                loss.backward()
                if not before and limit is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), limit)
                if clear == "after":
                    optimizer.zero_grad()
                return loss

            optimizer.step(closure)

    return body


def accumulated(num: int, loss_of: Loss, *, batches: int = 24, clear_each: bool = False) -> Loop:
    """As Lightning does it: only the last micro-batch of a window is within the step. An epoch
    may end early.
    """

    def body(model: nn.Module, optimizer: Optimizer) -> None:
        for epoch in range(3):
            for index in range(batches):

                def micro(epoch: int = epoch, index: int = index) -> Tensor:
                    if clear_each or index % num == 0:
                        optimizer.zero_grad()
                    loss = loss_of(model, epoch * batches + index)
                    loss.backward()
                    return loss

                if index % num == num - 1 or index == batches - 1:
                    optimizer.step(micro)
                else:
                    micro()

    return body


def stepped_twice(model: nn.Module, optimizer: Optimizer) -> None:
    """With closures that only return, as in Lightning's manual optimisation."""
    for step in range(12):
        optimizer.zero_grad()
        classify(model, step).backward()
        optimizer.step(lambda: None)  # type: ignore[arg-type,return-value]
        optimizer.step(lambda: None)  # type: ignore[arg-type,return-value]


def cleared_by_hand(model: nn.Module, optimizer: Optimizer) -> None:
    """Evaluations that nobody is told apart by a call."""
    for step in range(20):

        def closure(step: int = step) -> Tensor:
            for parameter in model.parameters():
                parameter.grad = None
            loss = classify(model, step)
            loss.backward()
            return loss

        optimizer.step(closure)


def gradients_set_by_hand(model: nn.Module, optimizer: Optimizer) -> None:
    for step in range(20):

        def closure(step: int = step) -> Tensor:
            loss = classify(model, step)
            parameters = list(model.parameters())
            for parameter, gradient in zip(
                parameters, torch.autograd.grad(loss, parameters), strict=True
            ):
                parameter.grad = gradient
            return loss

        optimizer.step(closure)


def several_losses(model: nn.Module, optimizer: Optimizer) -> None:
    for step in range(20):

        def closure(step: int = step) -> Tensor:
            optimizer.zero_grad()
            losses = classify(model, step), 0.5 * sum(p.square().mean() for p in model.parameters())
            for loss in losses:
                loss.backward()  # type: ignore[union-attr]
            return losses[0]

        optimizer.step(closure)


class SharpnessAware(torch.optim.SGD):
    """SAM in one step: at the weights, then at those that are moved uphill."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        evaluate = torch.enable_grad()(closure)
        loss = evaluate()
        parameters = [p for group in self.param_groups for p in group["params"]]
        moves = [0.05 * p.grad for p in parameters]
        for p, move in zip(parameters, moves, strict=True):
            p.add_(move)
        self.zero_grad()
        evaluate()
        for p, move in zip(parameters, moves, strict=True):
            p.sub_(move)
        super().step()
        self.zero_grad()
        return loss


def lbfgs(model: nn.Module) -> Optimizer:
    return torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=5, line_search_fn="strong_wolfe")


def cleared_outside(model: nn.Module, optimizer: Optimizer) -> None:
    """LBFGS calls the closure several times per step, which is cleared only before it."""
    for step in range(8):
        optimizer.zero_grad()

        def closure(step: int = step) -> Tensor:
            loss = classify(model, step)
            loss.backward()
            return loss

        optimizer.step(closure)


def micro_batches_within(model: nn.Module, optimizer: Optimizer) -> None:
    """Each evaluation adds up the parts of a batch."""
    for step in range(8):

        def closure(step: int = step) -> Tensor:
            optimizer.zero_grad()
            losses = [quarter(model, 4 * step + part) for part in range(4)]
            for loss in losses:
                loss.backward()
            return torch.stack(losses).sum()

        optimizer.step(closure)


def in_turn(listen: Listen) -> None:
    """A grid search: copies of a model, each with an optimizer and closures."""
    model = mlp(3, nn.ReLU)
    with listen():
        for lr in (0.05, 0.1, 0.2):
            model = mlp(3, nn.ReLU)
            alone()(model, sgd(model, lr))


class Perturbed(Optimizer):
    """Evaluates here and up the slope, and makes the step of another optimizer (GSAM)."""

    def __init__(self, base: Optimizer) -> None:
        super().__init__(base.param_groups[0]["params"], {})
        self.base, self.param_groups = base, base.param_groups

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        weights: list[Any] = self.param_groups[0]["params"]
        with torch.enable_grad():
            loss = closure()
        kept = [weight.clone() for weight in weights]
        for weight in weights:
            weight.add_(0.05 * weight.grad / (weight.grad.norm() + 1e-12))
        with torch.enable_grad():
            closure()
        for weight, before in zip(weights, kept, strict=True):
            weight.copy_(before)
        self.base.step()
        return loss


def perturbed(listen: Listen) -> list[float]:
    """The optimizer within clears; returns the losses at the weights of each step."""
    torch.manual_seed(0)
    model = mlp(2, nn.Tanh)
    base = torch.optim.SGD(model.parameters(), 0.1)
    optimizer: Any = Perturbed(base)
    losses: list[float] = []
    with listen(model, base, optimizer):
        for step in range(24):

            def closure(step: int = step) -> Tensor:
                base.zero_grad()
                loss = classify(model, step)
                loss.backward()
                return loss

            losses.append(optimizer.step(closure).item())
    return losses


FAULTY: dict[str, tuple[str, Program]] = {
    "cleared after backward": ("SG302", loop(alone(clear="after"))),
    "cleared for each micro-batch": ("SG302", loop(accumulated(4, quarter, clear_each=True))),
    "never cleared": ("SG301", loop(alone(clear="never"))),
    "LBFGS, cleared outside its closure": ("SG301", loop(cleared_outside, optimize=lbfgs)),
    "stepped twice": ("SG303", loop(stepped_twice)),
    "clipped before backward": ("SG304", loop(alone(before=True, limit=0.1))),
    "four means": ("SG307", loop(accumulated(4, classify))),
    "what is left counts too little": ("SG308", loop(accumulated(4, quarter, batches=15))),
    "micro-batches of different sizes": ("SG309", loop(accumulated(3, uneven))),
    "divided twice in the loss": ("SG310", loop(accumulated(4, lambda m, t: quarter(m, t) / 4))),
    "a limit of a thousandth": (
        "SG501",
        loop(alone(limit=1e-3), optimize=lambda m: sgd(m, 0.1, 0)),
    ),
}

HEALTHY: dict[str, Program] = {
    "alone": loop(alone()),
    "clipped": loop(alone(limit=1.0)),
    "accumulated": loop(accumulated(4, quarter)),
    "several losses": loop(several_losses),
    "LBFGS": loop(alone(limit=1.0), optimize=lbfgs),
    "LBFGS, cleared by hand": loop(cleared_by_hand, optimize=lbfgs),
    "LBFGS, micro-batches in its closure": loop(micro_batches_within, optimize=lbfgs),
    "cleared by hand": loop(cleared_by_hand),
    "gradients set by hand": loop(gradients_set_by_hand),
    "sharpness-aware minimisation": loop(
        alone(), optimize=lambda m: SharpnessAware(m.parameters(), lr=0.05)
    ),
    "optimizers in turn": in_turn,
}
