"""Training loops as people write them. Each says at the right moment what its ready gradient is,
without knowing that it is watched.

A loop takes `tell(scale=1.0, **models)`: it reads the gradients of these models (or single tensors)
there and then, divided by `scale`, in float64. Names are those that the record must use. What a
loop returns is compared bit by bit between watched and unwatched.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class Tell(Protocol):
    """Called once per step, when the gradient is ready."""

    def __call__(self, gradients: Mapping[str, Tensor], scale: float = 1.0) -> None: ...

    def applied(self, gradients: Mapping[str, Tensor]) -> None:
        """What the optimizer is about to consume, where that is something else."""


class Nobody:
    """For who only wants the loop to run."""

    def __call__(self, gradients: Mapping[str, Tensor], scale: float = 1.0) -> None:
        pass

    def applied(self, gradients: Mapping[str, Tensor]) -> None:
        pass


told_nothing = Nobody()


Outcome = list[Tensor]


@dataclass(frozen=True)
class Loop:
    """`name` is the row in the documentation; `events` the kinds of one typical iteration, in
    order, where they are worth asserting.
    """

    name: str
    run: Callable[[Tell], Outcome]
    measured: str


def mlp(*, seed: int = 0, width: int = 16, out: int = 4) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(8, width), nn.Tanh(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, out)
    )


def batch(step: int, size: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1000 + step)
    return torch.randn(size, 8, generator=generator), torch.randint(
        0, 4, (size,), generator=generator
    )


def grads(module: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    return {prefix + name: p for name, p in module.named_parameters() if p.grad is not None}


def state(*modules: nn.Module) -> Outcome:
    return [t.detach().clone() for m in modules for t in m.state_dict().values()]


def loss_of(model: Callable[[Tensor], Tensor], step: int, size: int = 16) -> Tensor:
    x, y = batch(step, size)
    return F.cross_entropy(model(x), y)


def plain(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(5):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        tell(grads(model))
        optimizer.step()
    return state(model)


def zero_grad_after_step(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(5):
        loss_of(model, step).backward()
        tell(grads(model))
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
    return state(model)


def cleared_by_hand(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(6):
        for p in model.parameters():
            if step % 2:
                p.grad = None
            elif p.grad is not None:
                p.grad.zero_()
        loss_of(model, step).backward()
        tell(grads(model))
        optimizer.step()
    return state(model)


def accumulation(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(4):
        optimizer.zero_grad()
        for micro in range(4):
            (loss_of(model, 4 * step + micro, 8) / 4).backward()
        tell(grads(model))
        optimizer.step()
    return state(model)


def clipped(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(5):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        tell(grads(model))
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        tell.applied(grads(model))
        optimizer.step()
    return state(model)


def clipped_by_value_and_norm(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(5):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        tell(grads(model))
        nn.utils.clip_grad_value_(model.parameters(), 0.01)
        nn.utils.clip_grad_norm_(list(model.parameters()), 0.05)
        tell.applied(grads(model))
        optimizer.step()
    return state(model)


def clip_each_micro_batch(tell: Tell) -> Outcome:
    """The gradient of the window is read after its last backward, though a clip came before."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        for micro in range(2):
            loss_of(model, 2 * step + micro).backward()
            if micro == 1:
                tell(grads(model))
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
    return state(model)


def grad_scaler(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(5):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model, step)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        tell(grads(model))
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        tell.applied(grads(model))
        scaler.step(optimizer)
        scaler.update()
    return state(model)


def grad_scaler_without_unscale(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    for step in range(5):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, step)).backward()
        tell(grads(model), scale=512.0)
        scaler.step(optimizer)
        scaler.update()
    return state(model)


def clip_before_unscale(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2048.0)
    for step in range(4):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, step)).backward()
        tell(grads(model), scale=2048.0)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    return state(model)


def skipped_step(tell: Tell) -> Outcome:
    """The scaler leaves out the second step: its gradients are recorded all the same."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    for step in range(4):
        optimizer.zero_grad()
        loss = loss_of(model, step) * (float("inf") if step == 1 else 1.0)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        tell(grads(model))
        scaler.step(optimizer)
        scaler.update()
    return state(model)


def gan(tell: Tell) -> Outcome:
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8))
    critic = nn.Sequential(nn.Linear(8, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
    generator_optimizer = torch.optim.Adam(generator.parameters(), lr=1e-3)
    for step in range(4):
        real, _ = batch(step)
        critic_optimizer.zero_grad()
        F.softplus(-critic(real)).mean().backward()
        fake = generator(real[:, :4])
        F.softplus(critic(fake.detach())).mean().backward()
        tell(grads(critic, "critic."))
        critic_optimizer.step()
        generator_optimizer.zero_grad()
        F.softplus(-critic(fake)).mean().backward()
        tell(grads(generator, "generator."))
        generator_optimizer.step()
    return state(generator, critic)


def two_optimizers_one_iteration(tell: Tell) -> Outcome:
    model = mlp()
    matrices = torch.optim.SGD([p for p in model.parameters() if p.ndim > 1], lr=0.1)
    vectors = torch.optim.AdamW([p for p in model.parameters() if p.ndim == 1], lr=1e-2)
    for step in range(4):
        matrices.zero_grad()
        vectors.zero_grad()
        loss_of(model, step).backward()
        tell(grads(model))
        matrices.step()
        vectors.step()
    return state(model)


def two_losses_one_step(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(4):
        optimizer.zero_grad()
        x, y = batch(step)
        out = model(x)
        F.cross_entropy(out, y).backward(retain_graph=True)
        out.square().mean().backward()
        tell(grads(model))
        optimizer.step()
    return state(model)


def lbfgs(tell: Tell) -> Outcome:
    """The ready gradient is that of the first evaluation of each step."""
    model = mlp()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
    for step in range(3):
        calls = 0

        def closure() -> Tensor:
            nonlocal calls
            optimizer.zero_grad()
            loss = loss_of(model, step)  # noqa: B023
            loss.backward()
            if calls == 0:
                tell(grads(model))
            calls += 1
            return loss

        optimizer.step(closure)
    return state(model)


def sgd_with_closure(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = loss_of(model, step)  # noqa: B023
            loss.backward()
            tell(grads(model))
            return loss

        optimizer.step(closure)
    return state(model)


def closure_with_clip(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(4):

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = loss_of(model, step)  # noqa: B023
            loss.backward()
            tell(grads(model))
            if step % 2:  # noqa: B023
                nn.utils.clip_grad_value_(model.parameters(), 0.01)
            nn.utils.clip_grad_norm_(model.parameters(), 0.02)
            tell.applied(grads(model))
            return loss

        optimizer.step(closure)
    return state(model)


def lbfgs_with_clip(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    for step in range(3):
        calls = 0

        def closure() -> Tensor:
            nonlocal calls
            for p in model.parameters():
                p.grad = None
            loss = loss_of(model, step)  # noqa: B023
            loss.backward()
            if calls == 0:
                tell(grads(model))
            nn.utils.clip_grad_norm_(model.parameters(), 0.05)
            if calls == 0:
                tell.applied(grads(model))
            calls += 1
            return loss

        optimizer.step(closure)
    return state(model)


def closure_of_last_micro_batch(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for number in range(9):

        def micro(number: int = number) -> Tensor:
            if number % 3 == 0:
                optimizer.zero_grad()
            loss = loss_of(model, number, 8) / 3
            loss.backward()
            if number % 3 == 2:
                tell(grads(model))
                nn.utils.clip_grad_norm_(model.parameters(), 0.05)
                tell.applied(grads(model))
            return loss

        if number % 3 == 2:
            optimizer.step(micro)
        else:
            micro()
    return state(model)


def closure_of_two_losses(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(4):

        def closure() -> Tensor:
            optimizer.zero_grad()
            first, second = loss_of(model, 2 * step), loss_of(model, 2 * step + 1)  # noqa: B023
            first.backward()
            second.backward()
            tell(grads(model))
            return first + second

        optimizer.step(closure)
    return state(model)


def closure_that_only_returns(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(4):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        tell(grads(model))
        nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        tell.applied(grads(model))
        optimizer.step(lambda: None)
    return state(model)


def optimizers_with_closures(tell: Tell) -> Outcome:
    """As in a grid search: the columns of the later copies are those of the first."""
    outcome: Outcome = []
    for lr in (0.1, 0.2, 0.3):
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        for step in range(3):

            def closure() -> Tensor:
                optimizer.zero_grad()  # noqa: B023
                loss = loss_of(model, step)  # noqa: B023
                loss.backward()
                tell(grads(model))  # noqa: B023
                return loss

            optimizer.step(closure)
        outcome += state(model)
    return outcome


def gan_with_closures(tell: Tell) -> Outcome:
    torch.manual_seed(0)
    generator, critic = nn.Linear(8, 8), nn.Linear(8, 1)
    first = torch.optim.Adam(generator.parameters(), lr=1e-3)
    second = torch.optim.Adam(critic.parameters(), lr=1e-3)
    for step in range(4):
        x, _ = batch(step)

        def of_critic(x: Tensor = x) -> Tensor:
            second.zero_grad()
            loss = critic(generator(x).detach()).mean() - critic(x).mean()
            loss.backward()
            tell(grads(critic, "critic."))
            return loss

        def of_generator(x: Tensor = x) -> Tensor:
            first.zero_grad()
            loss = -critic(generator(x)).mean()
            loss.backward()
            tell(grads(generator, "generator."))
            return loss

        second.step(of_critic)
        first.step(of_generator)
    return state(generator, critic)


def gradient_penalty(tell: Tell) -> Outcome:
    model = mlp(out=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(4):
        x, _ = batch(step)
        x.requires_grad_()
        out = model(x)
        (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        optimizer.zero_grad()
        (out.mean() + 10 * (slope.norm(dim=1) - 1).square().mean()).backward()
        tell(grads(model))
        optimizer.step()
    return state(model)


def fgsm(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(4):
        x, y = batch(step)
        x.requires_grad_()
        F.cross_entropy(model(x), y).backward()
        assert x.grad is not None
        attacked = (x + 0.1 * x.grad.sign()).detach()
        optimizer.zero_grad()
        F.cross_entropy(model(attacked), y).backward()
        tell(grads(model))
        optimizer.step()
    return state(model)


def checkpointing(tell: Tell, *, reentrant: bool) -> Outcome:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(4):
        optimizer.zero_grad()
        x, y = batch(step)
        hidden = model[0](x)
        hidden = checkpoint(model[1:4], hidden, use_reentrant=reentrant)
        F.cross_entropy(model[4](hidden), y).backward()
        tell(grads(model))
        optimizer.step()
    return state(model)


def checkpointing_not_reentrant(tell: Tell) -> Outcome:
    return checkpointing(tell, reentrant=False)


def checkpointing_reentrant(tell: Tell) -> Outcome:
    return checkpointing(tell, reentrant=True)


def optimizer_in_backward(tell: Tell) -> Outcome:
    model = mlp()
    optimizers = {p: torch.optim.Adam([p], lr=1e-2) for p in model.parameters()}
    seen: dict[str, Tensor] = {}
    names = {p: name for name, p in model.named_parameters()}

    def step_now(p: Tensor) -> None:
        assert p.grad is not None
        kept = torch.zeros_like(p)
        kept.grad = p.grad.clone()
        seen[names[p]] = kept
        optimizers[p].step()
        optimizers[p].zero_grad()

    hooks = [p.register_post_accumulate_grad_hook(step_now) for p in model.parameters()]
    for step in range(4):
        seen.clear()
        loss_of(model, step).backward()
        tell(dict(seen))
    for hook in hooks:  # torch would hold the optimizers for ever: each hook reaches its parameter
        hook.remove()
    return state(model)


def tied_weights(tell: Tell) -> Outcome:
    torch.manual_seed(0)

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(12, 8)
            self.body = nn.Linear(8, 8)
            self.head = nn.Linear(8, 12, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, tokens: Tensor) -> Tensor:
            return self.head(torch.tanh(self.body(self.embed(tokens))))

    model = Tied()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(4):
        tokens = torch.randint(0, 12, (4, 6), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
        tell(grads(model))
        optimizer.step()
    return state(model)


def sparse_embedding(tell: Tell) -> Outcome:
    torch.manual_seed(0)
    model = nn.Sequential(nn.EmbeddingBag(20, 8, sparse=True, mode="sum"), nn.Linear(8, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(4):
        tokens = torch.randint(0, 20, (6, 3), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        F.cross_entropy(model(tokens), tokens[:, 0] % 4).backward()
        tell(grads(model))
        optimizer.step()
    return state(model)


def complex_parameters(tell: Tell) -> Outcome:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(4, 4, dtype=torch.complex64))
    optimizer = torch.optim.SGD([weight], lr=0.01)
    for step in range(4):
        x = torch.randn(8, 4, dtype=torch.complex64, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (x @ weight).abs().square().mean().backward()
        tell({"weight": weight})
        optimizer.step()
    return [weight.detach().clone()]


def tensors_without_a_module(tell: Tell) -> Outcome:
    torch.manual_seed(0)
    first, second = torch.randn(8, 6, requires_grad=True), torch.randn(6, 4, requires_grad=True)
    optimizer = torch.optim.SGD([first, second], lr=0.1)
    for step in range(4):
        x, y = batch(step)
        optimizer.zero_grad()
        F.cross_entropy(torch.tanh(x @ first) @ second, y).backward()
        tell({"first": first, "second": second})
        optimizer.step()
    return [first.detach().clone(), second.detach().clone()]


def frozen_then_unfrozen(tell: Tell) -> Outcome:
    model = mlp()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for step in range(5):
        if step == 3:
            model[0].requires_grad_(True)
            optimizer.add_param_group({"params": list(model[0].parameters()), "lr": 0.01})
        optimizer.zero_grad()
        loss_of(model, step).backward()
        tell(grads(model))
        optimizer.step()
    return state(model)


def ema_teacher(tell: Tell) -> Outcome:
    model = mlp()
    teacher = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(4):
        x, _ = batch(step)
        optimizer.zero_grad()
        F.mse_loss(model(x), teacher(x) + 1).backward()
        tell(grads(model))
        optimizer.step()
        with torch.no_grad():
            for old, new in zip(teacher.parameters(), model.parameters(), strict=True):
                old.lerp_(new, 0.1)
    return state(model, teacher)


def wrapped_model(tell: Tell) -> Outcome:
    model = mlp()
    wrapped = nn.DataParallel(torch.compile(model, backend="eager", disable=False))
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        loss_of(wrapped, step).backward()
        tell(grads(model))
        optimizer.step()
    return state(model)


def foreach_and_fused(tell: Tell) -> Outcome:
    model = mlp()
    first = torch.optim.AdamW(model[0].parameters(), lr=1e-2, foreach=True)
    rest = torch.optim.AdamW([*model[2].parameters(), *model[4].parameters()], lr=1e-2, fused=True)
    for step in range(4):
        first.zero_grad()
        rest.zero_grad()
        loss_of(model, step).backward()
        tell(grads(model))
        first.step()
        rest.step()
    return state(model)


def fused_with_scaler(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=128.0)
    for step in range(4):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, step)).backward()
        tell(grads(model), scale=128.0)
        scaler.step(optimizer)
        scaler.update()
    return state(model)


def several_tensors_backward(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        torch.autograd.backward([loss_of(model, step), loss_of(model, step + 100)])
        tell(grads(model))
        optimizer.step()
    return state(model)


def gradients_set_by_hand(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    parameters = list(model.parameters())
    for step in range(4):
        for p, g in zip(
            parameters, torch.autograd.grad(loss_of(model, step), parameters), strict=True
        ):
            p.grad = g
        tell(grads(model))
        optimizer.step()
    return state(model)


def recurrent(tell: Tell) -> Outcome:
    torch.manual_seed(0)
    model = nn.ModuleDict({"rnn": nn.LSTM(8, 12, batch_first=True), "out": nn.Linear(12, 4)})
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    for step in range(4):
        x = torch.randn(4, 7, 8, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        hidden, _ = model["rnn"](x)
        F.cross_entropy(model["out"](hidden[:, -1]), torch.arange(4)).backward()
        tell(grads(model))
        optimizer.step()
    return state(model)


def low_precision(tell: Tell) -> Outcome:
    model = mlp().to(torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(4):
        x, y = batch(step)
        optimizer.zero_grad()
        F.cross_entropy(model(x.bfloat16()).float(), y).backward()
        tell(grads(model))
        optimizer.step()
    return state(model)


def sam(tell: Tell) -> Outcome:
    """Sharpness-aware minimisation: up the slope, a second backward there, back, and the step."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        with torch.no_grad():
            climbed = [
                0.05 * p.grad / (p.grad.norm() + 1e-12)
                for p in model.parameters()
                if p.grad is not None
            ]
            for p, e in zip(model.parameters(), climbed, strict=True):
                p.add_(e)
        optimizer.zero_grad()
        loss_of(model, step).backward()
        with torch.no_grad():
            for p, e in zip(model.parameters(), climbed, strict=True):
                p.sub_(e)
        tell(grads(model))
        optimizer.step()
    return state(model)


def dqn(tell: Tell) -> Outcome:
    value = mlp()
    target = copy.deepcopy(value).requires_grad_(False)
    optimizer = torch.optim.Adam(value.parameters(), lr=1e-3)
    for step in range(4):
        x, y = batch(step)
        chosen = value(x).gather(1, y.unsqueeze(1)).squeeze(1)
        F.smooth_l1_loss(chosen, 1 + 0.5 * target(x).max(1).values).backward()
        tell(grads(value))
        optimizer.step()
        optimizer.zero_grad()
        if step % 2:
            target.load_state_dict(value.state_dict())
    return state(value, target)


def actor_critic(tell: Tell) -> Outcome:
    torch.manual_seed(0)
    actor, critic = nn.Linear(8, 4), nn.Linear(8, 1)
    actor_optimizer = torch.optim.Adam(actor.parameters(), lr=1e-3)
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
    for step in range(4):
        x, y = batch(step)
        advantage = 1.0 - critic(x).squeeze(1)
        actor_loss = (F.cross_entropy(actor(x), y, reduction="none") * advantage.detach()).mean()
        critic_loss = advantage.square().mean()
        actor_optimizer.zero_grad()
        actor_loss.backward()
        critic_optimizer.zero_grad()
        critic_loss.backward()
        tell({**grads(actor, "actor."), **grads(critic, "critic.")})
        actor_optimizer.step()
        critic_optimizer.step()
    return state(actor, critic)


def compiled_step(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step_now = torch.compile(optimizer.step, backend="eager")
    for step in range(3):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        tell(grads(model))
        step_now()
    return state(model)


def capturable(tell: Tell) -> Outcome:
    """The learning rate is a tensor."""
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(1e-2))
    for step in range(4):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        tell(grads(model))
        optimizer.step()
    return state(model)


def integers_beside(tell: Tell) -> Outcome:
    """Quantised weights that are not trained, beside some that are (as an adapter on a quantised
    model).
    """
    model = mlp()
    model.register_parameter(
        "codes", nn.Parameter(torch.arange(8, dtype=torch.int8), requires_grad=False)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(4):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        tell(grads(model))
        optimizer.step()
    return state(model)


def lazy_modules(tell: Tell) -> Outcome:
    torch.manual_seed(0)
    model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        tell(grads(model))
        optimizer.step()
    return state(model)


def functional(tell: Tell) -> Outcome:
    """The weights live in a dictionary; the module is only a function of them."""
    model = mlp()
    weights = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(weights.values(), lr=0.1)
    for step in range(3):
        x, y = batch(step)
        optimizer.zero_grad()
        F.cross_entropy(torch.func.functional_call(model, weights, (x,)), y).backward()
        tell({f"weights[{name}]": p for name, p in weights.items()})
        optimizer.step()
    return [w.detach().clone() for w in weights.values()]


def torch_func_grad(tell: Tell) -> Outcome:
    """`torch.func.grad` gives gradients that the script hands to the optimizer."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(torch.func.functional_call(model, weights, (x,)), y)

    for step in range(3):
        found = torch.func.grad(loss)(
            {name: p.detach() for name, p in model.named_parameters()}, *batch(step)
        )
        for name, p in model.named_parameters():
            p.grad = found[name]
        tell(grads(model))
        optimizer.step()
    return state(model)


def by_hand(tell: Tell) -> Outcome:
    model = mlp()
    for step in range(4):
        model.zero_grad()
        loss_of(model, step).backward()
        tell(grads(model))
        with torch.no_grad():
            for p in model.parameters():
                assert p.grad is not None
                p -= 0.1 * p.grad
    return state(model)


def by_hand_with_clips(tell: Tell) -> Outcome:
    """Clipped before the update, and once more after it, which changes nothing."""
    model = mlp()
    for step in range(4):
        model.zero_grad()
        loss_of(model, step).backward()
        tell(grads(model))
        if step % 2:
            nn.utils.clip_grad_value_(model.parameters(), 0.01)
        nn.utils.clip_grad_norm_(model.parameters(), 0.02)
        tell.applied(grads(model))
        with torch.no_grad():
            for p in model.parameters():
                assert p.grad is not None
                p -= 0.1 * p.grad
        nn.utils.clip_grad_norm_(model.parameters(), 1e-6)
    return state(model)


class OwnOptimizer:
    """As a framework makes them: nothing of torch's, groups as lists and rates beside them."""

    def __init__(self, *groups: list[Tensor], lr: float) -> None:
        self.param_lists = groups
        self.hypers = [{"lr": lr} for _ in groups]

    def step(self) -> None:
        with torch.no_grad():
            for group, rates in zip(self.param_lists, self.hypers, strict=True):
                for p in group:
                    if p.grad is not None:
                        p.sub_(rates["lr"] * p.grad)

    def zero_grad(self) -> None:
        for p in (p for group in self.param_lists for p in group):
            p.grad = None


def optimizer_of_a_framework(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = OwnOptimizer(
        list(model[0].parameters()), [*model[2].parameters(), *model[4].parameters()], lr=0.1
    )
    for step in range(4):
        optimizer.hypers[0]["lr"] = 0.1 / (1 + step)
        loss_of(model, step).backward()
        tell(grads(model))
        nn.utils.clip_grad_norm_(model.parameters(), 0.02)
        tell.applied(grads(model))
        optimizer.step()
        optimizer.zero_grad()
    return state(model)


def by_hand_through_data(tell: Tell) -> Outcome:
    """As the first tutorials do it: `.data`, and `.grad.zero_()`."""
    model = mlp()
    for step in range(4):
        loss_of(model, step).backward()
        tell(grads(model))
        for p in model.parameters():
            assert p.grad is not None
            p.data -= 0.1 * p.grad
            p.grad.zero_()
    return state(model)


def clipped_by_group(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.SGD(
        [
            {"params": model[0].parameters()},
            {"params": [*model[2].parameters(), *model[4].parameters()]},
        ],
        lr=0.1,
    )
    for step in range(4):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        tell(grads(model))
        for group in optimizer.param_groups:
            nn.utils.clip_grad_norm_(group["params"], 0.05)
        tell.applied(grads(model))
        optimizer.step()
    return state(model)


def clipped_by_hand(tell: Tell) -> Outcome:
    """Noticed in the first step, of which only what was applied is known; from the second on
    both are.
    """
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(4):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        if step:
            tell(grads(model))
        for p in model.parameters():
            assert p.grad is not None
            p.grad.mul_(0.5)
        if not step:
            tell(grads(model))
        tell.applied(grads(model))
        optimizer.step()
    return state(model)


def clipped_with_a_norm(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(4):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        tell(grads(model))
        found = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        nn.utils.clip_grads_with_norm_(model.parameters(), 0.1, found)
        tell.applied(grads(model))
        optimizer.step()
    return state(model)


def module_replaced(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(4):
        if step == 2:
            model[4] = nn.Linear(16, 4)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer.zero_grad()
        loss_of(model, step).backward()
        tell(grads(model))
        optimizer.step()
    return state(model)


def inner_loops(tell: Tell) -> Outcome:
    """A copy and an optimizer of its own for each task, as in meta-learning; both are gone
    afterwards.
    """
    start = mlp()
    for task in range(3):
        learner = copy.deepcopy(start)
        inner = torch.optim.SGD(learner.parameters(), lr=0.1)
        for step in range(2):
            inner.zero_grad()
            loss_of(learner, 10 * task + step).backward()
            tell(grads(learner))
            inner.step()
        del learner, inner
    return state(start)


def averaged_and_scheduled(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
    average = torch.optim.swa_utils.AveragedModel(model)
    for step in range(4):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        tell(grads(model))
        optimizer.step()
        schedule.step()
        average.update_parameters(model)
    return state(model, average)


def tensor_hooks(tell: Tell) -> Outcome:
    """What a hook of the script makes of the gradient is the gradient."""
    model = mlp()
    for p in model.parameters():
        p.register_hook(lambda g: g.clamp(-0.01, 0.01))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        tell(grads(model))
        optimizer.step()
    return state(model)


def parametrized(tell: Tell) -> Outcome:
    model = mlp()
    nn.utils.parametrizations.weight_norm(model[0])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(3):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        tell(grads(model))
        optimizer.step()
    return state(model)


def last_window_short(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sizes = [4, 4, 2]
    for number, size in enumerate(sizes):
        for micro in range(size):
            (loss_of(model, 4 * number + micro, 8) / size).backward()
        tell(grads(model))
        optimizer.step()
        optimizer.zero_grad()
    return state(model)


def scaler_with_two_optimizers(tell: Tell) -> Outcome:
    model = mlp()
    first = torch.optim.SGD(model[0].parameters(), lr=0.1)
    rest = torch.optim.Adam([*model[2].parameters(), *model[4].parameters()], lr=1e-2)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    for step in range(3):
        first.zero_grad()
        rest.zero_grad()
        scaler.scale(loss_of(model, step)).backward()
        tell(grads(model), scale=64.0)
        scaler.step(first)
        scaler.step(rest)
        scaler.update()
    return state(model)


def autocast_without_scaler(tell: Tell) -> Outcome:
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(3):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model, step)
        loss.backward()
        tell(grads(model))
        optimizer.step()
    return state(model)


LOOPS = (
    Loop("plain: zero_grad, backward, step", plain, "before step"),
    Loop("zero_grad(set_to_none=False) after the step", zero_grad_after_step, "before step"),
    Loop("gradients cleared by hand (None, zero_)", cleared_by_hand, "before step"),
    Loop(
        "accumulation over 4 micro-batches", accumulation, "before step, after the last micro-batch"
    ),
    Loop("clip_grad_norm_", clipped, "before the clip"),
    Loop(
        "clip_grad_value_, then clip_grad_norm_", clipped_by_value_and_norm, "before the first clip"
    ),
    Loop("clip after every micro-batch", clip_each_micro_batch, "before the last clip"),
    Loop("GradScaler with unscale_ and clip", grad_scaler, "after unscale_, before the clip"),
    Loop(
        "GradScaler without unscale_", grad_scaler_without_unscale, "after the scaler's own unscale"
    ),
    Loop(
        "GradScaler, clip before unscale",
        clip_before_unscale,
        "before the clip, divided by the scale",
    ),
    Loop(
        "GradScaler leaves out a step",
        skipped_step,
        "after unscale_; the step is marked as skipped",
    ),
    Loop(
        "GradScaler with a fused optimizer", fused_with_scaler, "before step, divided by the scale"
    ),
    Loop("GAN: two models, two optimizers in turn", gan, "before each step; an iteration each"),
    Loop(
        "two optimizers, one backward",
        two_optimizers_one_iteration,
        "before each step; one iteration",
    ),
    Loop("two losses, two backwards, one step", two_losses_one_step, "before step, after both"),
    Loop("LBFGS with a closure", lbfgs, "after the first evaluation of the closure"),
    Loop("SGD with a closure", sgd_with_closure, "after the closure's backward"),
    Loop(
        "SGD with a closure that clips",
        closure_with_clip,
        "after the closure's backward, before its clip",
    ),
    Loop(
        "LBFGS with a closure that clips",
        lbfgs_with_clip,
        "after the first evaluation's backward, before its clip",
    ),
    Loop(
        "accumulation, the last micro-batch in a closure",
        closure_of_last_micro_batch,
        "after the closure's backward, before its clip",
    ),
    Loop("two losses in a closure", closure_of_two_losses, "after the closure's last backward"),
    Loop("a closure that only returns", closure_that_only_returns, "before the clip"),
    Loop(
        "optimizers one after the other, with closures",
        optimizers_with_closures,
        "after the closure's backward",
    ),
    Loop(
        "GAN with closures", gan_with_closures, "after each closure's backward; an iteration each"
    ),
    Loop("gradient penalty (create_graph)", gradient_penalty, "before step"),
    Loop("FGSM (gradients of inputs)", fgsm, "before step, without what zero_grad discarded"),
    Loop("checkpointing, not reentrant", checkpointing_not_reentrant, "before step"),
    Loop(
        "checkpointing, reentrant",
        checkpointing_reentrant,
        "before step; the inner backward is part of the outer",
    ),
    Loop(
        "optimizer in backward, one per parameter",
        optimizer_in_backward,
        "before each step; one iteration",
    ),
    Loop("tied weights", tied_weights, "before step; once, with its aliases"),
    Loop("sparse gradients", sparse_embedding, "before step, coalesced"),
    Loop("complex parameters", complex_parameters, "before step; two reals a scalar"),
    Loop("tensors outside any module", tensors_without_a_module, "before step; named by variable"),
    Loop("frozen, then unfrozen with a new group", frozen_then_unfrozen, "before step"),
    Loop("EMA teacher", ema_teacher, "before step; the teacher is not listed"),
    Loop("DataParallel around torch.compile", wrapped_model, "before step; names without wrappers"),
    Loop("foreach and fused optimizers", foreach_and_fused, "before each step; one iteration"),
    Loop("backward of several tensors", several_tensors_backward, "before step"),
    Loop("gradients set by hand (autograd.grad)", gradients_set_by_hand, "before step"),
    Loop("recurrent net", recurrent, "before step"),
    Loop("bfloat16 weights", low_precision, "before step"),
    Loop("autocast without a scaler", autocast_without_scaler, "before step"),
    Loop(
        "GradScaler with two optimizers",
        scaler_with_two_optimizers,
        "after the scaler's own unscale of each; one iteration",
    ),
    Loop(
        "accumulation with a short last window",
        last_window_short,
        "before step, after the last micro-batch",
    ),
    Loop("clip_grad_norm_ for each group", clipped_by_group, "before the first clip"),
    Loop("clip_grads_with_norm_", clipped_with_a_norm, "before the clip"),
    Loop(
        "gradients changed by hand",
        clipped_by_hand,
        "after backward, once such a change was noticed; the first is marked",
    ),
    Loop("SAM", sam, "before step, after the second backward"),
    Loop("DQN with a target network", dqn, "before step; the target is not listed"),
    Loop(
        "actor and critic, two backwards, two steps",
        actor_critic,
        "before each step; one iteration",
    ),
    Loop("torch.compile of the optimizer's step", compiled_step, "before step"),
    Loop("learning rate as a tensor", capturable, "before step"),
    Loop(
        "integer parameters beside trained ones",
        integers_beside,
        "before step; they have no gradient",
    ),
    Loop("lazy modules", lazy_modules, "before step; listed once they have a shape"),
    Loop(
        "functional_call with a dictionary of weights",
        functional,
        "before step; named by variable and key",
    ),
    Loop("torch.func.grad", torch_func_grad, "before step"),
    Loop(
        "updates by hand, no optimizer",
        by_hand,
        "after backward; a step is when the weights have changed",
    ),
    Loop(
        "updates by hand with a clip",
        by_hand_with_clips,
        "before the clip; a step is when the weights have changed",
    ),
    Loop(
        "an optimizer class of a framework",
        optimizer_of_a_framework,
        "before the clip; a step is when the weights have changed",
    ),
    Loop(
        "updates by hand through .data",
        by_hand_through_data,
        "after backward; a step is when the weights have changed",
    ),
    Loop("a module replaced in the run", module_replaced, "before step; its columns go on"),
    Loop(
        "inner loops with models of their own",
        inner_loops,
        "before each step; a copy takes over the columns of the one before",
    ),
    Loop(
        "scheduler and averaged model",
        averaged_and_scheduled,
        "before step; the average is not listed",
    ),
    Loop("tensor hooks that change gradients", tensor_hooks, "before step, after the hooks"),
    Loop("parametrised weights (weight_norm)", parametrized, "before step; the original tensors"),
)
