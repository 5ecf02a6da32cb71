"""Training loops that look odd and are right. `listen(model, optimizer, …)` is what watches
them.
"""

from __future__ import annotations

import copy
import math
from functools import partial
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.rules.loops_at_fault import (
    Optimizer,
    Parts,
    accumulated,
    clipped,
    epochs,
    loop,
    plain,
    scaled,
)
from tests.rules.programs import (
    NUM_CLASSES,
    WIDTH,
    Listen,
    Program,
    adam,
    batch,
    classify,
    mlp,
    sgd,
)


def critic_often(listen: Listen) -> None:
    """A GAN whose critic is trained five times as often, on real and generated points apart, at
    one line.
    """
    torch.manual_seed(0)
    generator, critic = mlp(3, nn.ReLU, outputs=WIDTH), mlp(3, nn.LeakyReLU, outputs=1)
    opt_g, opt_d = adam(generator, 1e-3), adam(critic, 1e-3)
    judge = nn.BCEWithLogitsLoss()
    with listen(generator, critic, opt_g, opt_d):
        for step in range(60):
            opt_d.zero_grad()
            fake = generator(torch.randn(32, WIDTH))
            for points, label in ((batch(step)[0], torch.ones), (fake.detach(), torch.zeros)):
                judge(critic(points), label(32, 1)).backward()
            opt_d.step()
            if step % 5 == 4:
                opt_g.zero_grad()
                judge(critic(generator(torch.randn(32, WIDTH))), torch.ones(32, 1)).backward()
                opt_g.step()


def frozen_for_a_while(listen: Listen) -> None:
    """Two nets in turn, an epoch each; the optimizer of the one that is frozen steps as well."""
    torch.manual_seed(0)
    first, second = mlp(3, nn.ReLU), mlp(3, nn.ReLU)
    optimizers = adam(first, 1e-3), adam(second, 1e-3)
    with listen(first, second, *optimizers):
        for step in range(120):
            is_first = step // 20 % 2 == 0
            first.requires_grad_(is_first)
            second.requires_grad_(not is_first)
            for optimizer in optimizers:
                optimizer.zero_grad()
            classify(first if is_first else second, step).backward()
            for optimizer in optimizers:
                optimizer.step()


def evolution_strategies(listen: Listen) -> None:
    """Nothing requires a gradient: the script estimates it from the losses at random weights."""
    torch.manual_seed(0)
    model = mlp(2, nn.Tanh).requires_grad_(False)
    optimizer = adam(model, 1e-2)
    weights = dict(model.named_parameters())
    with listen(model, optimizer):
        for step in range(20):
            ways = [{n: torch.randn_like(p) for n, p in weights.items()} for _ in range(8)]
            losses = []
            for way in ways:
                moved = {n: p + 0.1 * way[n] for n, p in weights.items()}
                points, labels = batch(step)
                losses.append(
                    F.cross_entropy(torch.func.functional_call(model, moved, points), labels)
                )
            shares = torch.stack(losses) - torch.stack(losses).mean()
            for name, p in weights.items():
                p.grad = sum(
                    (share * way[name] for share, way in zip(shares, ways, strict=True)), 0 * p
                )
            optimizer.step()


def gradient_penalty(listen: Listen) -> None:
    torch.manual_seed(0)
    critic = mlp(3, nn.Softplus, outputs=1)
    optimizer = adam(critic)
    with listen(critic, optimizer):
        for step in range(30):
            points = batch(step)[0].requires_grad_()
            optimizer.zero_grad()
            score = critic(points)
            (slope,) = torch.autograd.grad(score.sum(), points, create_graph=True)
            penalty = 10 * (slope.norm(dim=1) - 1).pow(2).mean()
            score.mean().backward(retain_graph=True)
            penalty.backward()
            optimizer.step()


def adversarial(model: nn.Module, optimizer: Optimizer) -> None:
    """Three steps of ascent on the inputs, whose backwards also reach the weights and are
    cleared.
    """
    for step in range(20):
        x, labels = batch(step)
        x.requires_grad_()
        for _ in range(3):
            loss = F.cross_entropy(model(x), labels)
            loss.backward()
            x = (x + 0.05 * x.grad.sign()).detach().requires_grad_()
        optimizer.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()


class SharpnessAware(torch.optim.Optimizer):
    """SAM as it is usually written: a base optimizer inside."""

    def __init__(self, params, base, **options) -> None:  # type: ignore[no-untyped-def]
        super().__init__(params, options)
        self.base = base(self.param_groups, **options)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def first(self) -> None:
        norm = torch.stack(
            [p.grad.norm() for group in self.param_groups for p in group["params"]]
        ).norm()
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["old"] = p.clone()
                p.add_(p.grad, alpha=0.05 / float(norm))
        self.zero_grad()

    @torch.no_grad()
    def second(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.copy_(self.state[p]["old"])
        self.base.step()
        self.zero_grad()


def sharpness_aware(listen: Listen) -> None:
    model = mlp(3, nn.ReLU)
    optimizer = SharpnessAware(model.parameters(), torch.optim.SGD, lr=0.05, momentum=0.9)
    with listen(model, optimizer, optimizer.base):
        for step in range(20):
            for move in (optimizer.first, optimizer.second):
                classify(model, step).backward()
                move()


def with_closure(model: nn.Module, optimizer: Optimizer) -> None:
    for step in range(8):

        def closure(step: int = step) -> Tensor:
            optimizer.zero_grad()
            loss = classify(model, step)
            loss.backward()
            return loss

        optimizer.step(closure)


class Heads(nn.Module):
    def __init__(self, num: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(WIDTH, NUM_CLASSES) for _ in range(num))

    def forward(self, x: Tensor) -> list[Tensor]:
        h = self.trunk(x)
        return [head(h) for head in self.heads]


def losses_in_a_loop(model: nn.Module, optimizer: Optimizer) -> None:
    """Three losses of one forward pass, backpropagated at one line."""
    for step in range(20):
        x, labels = batch(step)
        optimizer.zero_grad()
        for number, output in enumerate(model(x)):
            F.cross_entropy(output, (labels + number) % NUM_CLASSES).backward(retain_graph=True)
        optimizer.step()


def a_head_at_a_time(model: nn.Module, optimizer: Optimizer) -> None:
    """One task in each step, in turn; the other heads get nothing."""
    for step in range(60):
        x, labels = batch(step)
        optimizer.zero_grad()
        F.cross_entropy(model(x)[step // 4 % 3], labels).backward()
        optimizer.step()


def summed_over_an_episode(model: nn.Module, optimizer: Optimizer) -> None:
    """Policy gradients: each episode adds a sum over its steps, and the norm is often above the
    limit.
    """
    for step in range(160):
        x, labels = batch(step, 8 + step % 5)
        log_probability = torch.distributions.Categorical(logits=model(x)).log_prob(labels)
        (
            -(
                log_probability * torch.randn(len(x), generator=torch.Generator().manual_seed(step))
            ).sum()
        ).backward()
        if step % 4 == 3:
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()


def truncated(listen: Listen) -> None:
    """A recurrent net, backpropagated through pieces of a sequence, one step for each."""
    torch.manual_seed(0)
    model = nn.GRU(WIDTH, WIDTH, batch_first=True)
    optimizer = adam(model)
    with listen(model, optimizer):
        hidden = torch.zeros(1, 4, WIDTH)
        for step in range(25):
            x = batch(step)[0].view(4, 8, WIDTH)
            output, hidden = model(x, hidden.detach())
            optimizer.zero_grad()
            F.mse_loss(output, x.tanh()).backward()
            optimizer.step()


def target_network(listen: Listen) -> None:
    torch.manual_seed(0)
    model = mlp(3, nn.ReLU)
    target = copy.deepcopy(model)
    optimizer = adam(model)
    with listen(model, optimizer):
        for step in range(40):
            x, _ = batch(step)
            with torch.no_grad():
                goal = 1 + 0.5 * target(x).max(1).values
            loss = F.smooth_l1_loss(model(x).max(1).values, goal)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for old, new in zip(target.parameters(), model.parameters(), strict=True):
                old.data.lerp_(new.data, 0.05)


class Averaged(nn.Module):
    """A network and its average in one module, as self-supervised learning has them."""

    def __init__(self) -> None:
        super().__init__()
        self.online = mlp(2, nn.ReLU, outputs=WIDTH)
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.predictor = nn.Linear(WIDTH, WIDTH)


def averaged(model: Averaged, optimizer: Optimizer) -> None:
    for step in range(30):
        x, _ = batch(step)
        optimizer.zero_grad()
        loss = -F.cosine_similarity(
            model.predictor(model.online(x)), model.target(x + 0.1).detach()
        ).mean()
        loss.backward()
        optimizer.step()
        for old, new in zip(model.target.parameters(), model.online.parameters(), strict=True):
            old.lerp_(new.detach(), 0.05)


def frozen_body(held_by_the_optimizer: bool) -> Program:
    def program(listen: Listen) -> None:
        model = Parts()
        model.body.requires_grad_(False)
        optimizer = adam(model if held_by_the_optimizer else model.head)  # type: ignore[arg-type]
        with listen(model, optimizer):
            plain(model, optimizer)

    return program


def features_without_gradients(listen: Listen) -> None:
    """A linear probe: the body is trainable, and used under no_grad."""
    model = Parts()
    optimizer = adam(model.head)
    with listen(model, optimizer):
        for step in range(40):
            x, labels = batch(step)
            with torch.no_grad():
                h = model.body(x)
            optimizer.zero_grad()
            F.cross_entropy(model.head(h), labels).backward()
            optimizer.step()


def unfrozen_in_turn(by_group: bool) -> Program:
    def program(listen: Listen) -> None:
        model = Parts()
        model.body.requires_grad_(False)
        optimizer = adam(model.head if by_group else model)  # type: ignore[arg-type]
        with listen(model, optimizer):
            for step in range(90):
                if step in (40, 60):
                    layer = model.body[2 if step == 40 else 0].requires_grad_(True)
                    if by_group:
                        optimizer.add_param_group({"params": list(layer.parameters())})
                optimizer.zero_grad()
                classify(model, step).backward()
                optimizer.step()

    return program


class Experts(nn.Module):
    """A router that never chooses one of its experts."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Linear(WIDTH, WIDTH)
        self.experts = nn.ModuleList(nn.Linear(WIDTH, NUM_CLASSES) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x).relu()
        chosen = h.detach()[:, :3].argmax(dim=1)
        output = torch.zeros(len(x), NUM_CLASSES)
        for number in chosen.unique().tolist():
            output[chosen == number] = self.experts[number](h[chosen == number])
        return output


def in_backward(listen: Listen) -> None:
    model = mlp(3, nn.ReLU)
    optimizers = {p: torch.optim.Adam([p], lr=1e-3) for p in model.parameters()}

    def step_now(parameter: Tensor) -> None:
        optimizers[parameter].step()  # type: ignore[index]
        optimizers[parameter].zero_grad()  # type: ignore[index]

    hooks = [p.register_post_accumulate_grad_hook(step_now) for p in model.parameters()]
    with listen(model, *optimizers.values()):
        for step in range(30):
            classify(model, step).backward()
    for hook in hooks:  # torch would hold the optimizers for ever: each hook reaches its parameter
        hook.remove()


def scaled_and_accumulated(model: nn.Module, optimizer: Optimizer) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=4096.0)
    for step in range(48):
        scaler.scale(classify(model, step) / 4).backward()
        if step % 4 == 3:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()


def by_hand(listen: Listen) -> None:
    model = mlp(3, nn.ReLU)
    with listen(model):
        for step in range(30):
            classify(model, step).backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 0.1 * parameter.grad
                    parameter.grad = None


def stopped_in_a_window(model: nn.Module, optimizer: Optimizer) -> None:
    for step in range(43):
        (classify(model, step) / 4).backward()
        if step % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()


def flushed_whatever_is_left(model: nn.Module, optimizer: Optimizer) -> None:
    """After each epoch one more step, though nothing is left over."""
    for _ in range(3):
        for step in range(16):
            (classify(model, step) / 4).backward()
            if step % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
        optimizer.step()
        optimizer.zero_grad()


def counted_over_epochs(model: nn.Module, optimizer: Optimizer) -> None:
    step = 0
    for _ in range(4):
        for _ in range(13):
            (classify(model, step) / 4).backward()
            step += 1
            if step % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()


def bad_batches_are_left_out(model: nn.Module, optimizer: Optimizer) -> None:
    for step in range(40):
        x, labels = batch(step)
        x[0, 0] = math.nan if step % 9 == 4 else x[0, 0]
        F.cross_entropy(model(x), labels).backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if torch.isfinite(norm):
            optimizer.step()
        optimizer.zero_grad()


def divided_by_tokens(model: nn.Module, optimizer: Optimizer) -> None:
    """The sum over the tokens of each micro-batch, divided by those of the window."""
    for window in range(12):
        parts = [batch(4 * window + number, size) for number, size in enumerate((4, 40, 9, 17))]
        total = sum(len(x) for x, _ in parts)
        optimizer.zero_grad()
        for x, labels in parts:
            (F.cross_entropy(model(x), labels, reduction="sum") / total).backward()
        optimizer.step()


def clipped_by_hand(model: nn.Module, optimizer: Optimizer) -> None:
    for step in range(40):
        optimizer.zero_grad()
        classify(model, step).backward()
        norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
        for parameter in model.parameters():
            parameter.grad.mul_(min(1.0, 0.2 / float(norm)))
        optimizer.step()


def projected(model: nn.Module, optimizer: Optimizer) -> None:
    """Gradients of two losses are computed apart, put together and given by hand."""
    parameters = list(model.parameters())
    for step in range(25):
        both = [
            torch.autograd.grad(classify(model, 2 * step + number), parameters)
            for number in range(2)
        ]
        for parameter, first, second in zip(parameters, *both, strict=True):
            parameter.grad = (first + second) / 2
        optimizer.step()


def assigned(model: nn.Module, optimizer: Optimizer) -> None:
    """What a backward pass for another purpose has left is cleared, and the gradients of the loss
    are given by hand.
    """
    parameters = list(model.parameters())
    for step in range(25):
        classify(model, 2 * step).backward()
        optimizer.zero_grad()
        gradients = torch.autograd.grad(classify(model, 2 * step + 1), parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()


def noisy(model: nn.Module, optimizer: Optimizer) -> None:
    for step in range(25):
        optimizer.zero_grad()
        classify(model, step).backward()
        for parameter in model.parameters():
            parameter.grad.add_(
                0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step))
            )
        optimizer.step()


def primed(model: nn.Module, optimizer: Optimizer) -> None:
    """A first step on nothing, and a schedule with warm-up."""
    optimizer.step()
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 10))
    for step in range(30):
        optimizer.zero_grad()
        classify(model, step).backward()
        optimizer.step()
        schedule.step()


def two_optimizers_of_one_model(listen: Listen) -> None:
    """Matrices under one optimizer, the rest under another; accumulation, clip of all, a window
    that is left over and counted right.
    """
    model = mlp(4, nn.ReLU)
    matrices = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    optimizers = (torch.optim.SGD(matrices, lr=0.05), torch.optim.AdamW(others, lr=1e-3))
    with listen(model, *optimizers):
        for epoch in range(3):
            for index in range(14):
                size = min(4, 14 - index // 4 * 4)
                (classify(model, 14 * epoch + index) / size).backward()
                if index % 4 == 3 or index == 13:
                    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                    for optimizer in optimizers:
                        optimizer.step()
                        optimizer.zero_grad()


def judged_by_another_network(freeze: bool) -> Program:
    """A perceptual loss."""

    def program(listen: Listen) -> None:
        torch.manual_seed(0)
        model, judge = (
            mlp(2, nn.ReLU, outputs=WIDTH),
            nn.Sequential(nn.Linear(WIDTH, 64), nn.Tanh(), nn.Linear(64, 64)),
        )
        judge.requires_grad_(not freeze)
        optimizer = adam(model)
        with listen(model, optimizer):
            for step in range(30):
                x, _ = batch(step)
                optimizer.zero_grad()
                F.mse_loss(judge(model(x)), judge(x).detach()).backward()
                optimizer.step()

    return program


class Adapted(nn.Module):
    """A frozen layer with an adapter of low rank."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.base = nn.Linear(inputs, outputs).requires_grad_(False)
        self.down, self.up = nn.Linear(inputs, 2, bias=False), nn.Linear(2, outputs, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


def adapted() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        Adapted(WIDTH, 64),
        nn.ReLU(),
        Adapted(64, 64),
        nn.ReLU(),
        nn.Linear(64, NUM_CLASSES).requires_grad_(False),
    )


def in_turn(listen: Listen) -> None:
    """Two optimizers of one model, each with losses of its own, one cleared by the other's loop."""
    model = Parts()
    first, second = adam(model.body), adam(model.head)
    with listen(model, first, second):
        for step in range(40):
            model.zero_grad()
            classify(model, step).backward()
            (first if step % 2 else second).step()


def reptile(listen: Listen) -> None:
    """Meta-learning: copies are trained by optimizers of their own."""
    model = mlp(3, nn.ReLU)
    optimizer = sgd(model, 0.5, 0.0)
    with listen(model, optimizer):
        for task in range(12):
            learner = copy.deepcopy(model)
            inner = sgd(learner, 0.1, 0.0)
            for step in range(3):
                inner.zero_grad()
                classify(learner, 3 * task + step).backward()
                inner.step()
            for parameter, moved in zip(model.parameters(), learner.parameters(), strict=True):
                parameter.grad = parameter.detach() - moved.detach()
            optimizer.step()


def autoencoder(model: nn.Module, optimizer: Optimizer) -> None:
    """A sum over features, divided by the batch, and a second term with a weight."""
    for step in range(30):
        x, _ = batch(step)
        output = model(x)
        loss = (
            F.mse_loss(output, x[:, :NUM_CLASSES], reduction="sum") + 0.1 * output.square().sum()
        ) / len(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def several_epochs_over_a_batch(listen: Listen) -> None:
    """Actor and critic, updated ten times on what was collected, clipped together at 0.5."""
    torch.manual_seed(0)
    actor, critic = mlp(3, nn.Tanh), mlp(3, nn.Tanh, outputs=1)
    optimizer = torch.optim.Adam(chain(actor.parameters(), critic.parameters()), lr=3e-4)
    with listen(actor, critic, optimizer):
        for step in range(120):
            x, actions = batch(step // 10, 64)
            advantage = torch.randn(64, generator=torch.Generator().manual_seed(step // 10))
            log_probability = torch.distributions.Categorical(logits=actor(x)).log_prob(actions)
            ratio = (log_probability - log_probability.detach()).exp()
            gain = torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
            loss = 0.5 * (critic(x)[:, 0] - 5 * advantage).square().mean() - gain
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(chain(actor.parameters(), critic.parameters()), 0.5)
            optimizer.step()


def norm_is_logged(model: nn.Module, optimizer: Optimizer) -> None:
    for step in range(20):
        optimizer.zero_grad()
        classify(model, step).backward()
        optimizer.step()
        nn.utils.clip_grad_norm_(model.parameters(), math.inf)


def limit_is_scaled(model: nn.Module, optimizer: Optimizer) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=4096.0)
    for step in range(20):
        optimizer.zero_grad()
        scaler.scale(classify(model, step)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0 * scaler.get_scale())
        scaler.step(optimizer)
        scaler.update()


def divided_by_hand(model: nn.Module, optimizer: Optimizer) -> None:
    """Undivided losses, and gradients divided before the step."""
    accumulated(4, classify, by_hand=0.25)(model, optimizer)


def reptile_by_hand(listen: Listen, num_evaluated: int = 0) -> None:
    """An outer optimizer over the parameters that an inner one of each task adapts; first some
    copies are fine-tuned, each by an optimizer of its own.
    """
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1)
    )
    with listen():
        outer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(num_evaluated):
            _adapt(copy.deepcopy(model))
        for _ in range(40):
            start = [p.detach().clone() for p in model.parameters()]
            moved = [torch.zeros_like(p) for p in start]
            for _ in range(4):
                _adapt(model)
                with torch.no_grad():
                    for total, before, p in zip(moved, start, model.parameters(), strict=True):
                        total += (before - p) / 4
                        p.copy_(before)
            for p, total in zip(model.parameters(), moved, strict=True):
                p.grad = total
            outer.step()


def _adapt(model: nn.Module) -> None:
    """Fit a wave that is drawn now."""
    inner = torch.optim.SGD(model.parameters(), lr=0.02)
    height, phase, shift = 0.5 + 2 * torch.rand(1), 3.14 * torch.rand(1), torch.randn(1)
    x = 8 * torch.rand(20, 1) - 4
    y = height * torch.sin(1.3 * x + phase) + shift
    for _ in range(8):
        inner.zero_grad()
        F.mse_loss(model(x), y).backward()
        inner.step()


def same_tensors_in_turn(listen: Listen) -> None:
    """Two optimizers over the same parameters, one three times as often; each clears."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, 32), nn.ReLU(), nn.Linear(32, WIDTH))
    first, second = adam(model, 1e-3), sgd(model, 1e-3)
    with listen(model, first, second):
        for step in range(120):
            optimizer = first if step % 4 == 3 else second
            x = batch(step)[0]
            optimizer.zero_grad()
            F.mse_loss(model(x), x).backward()
            optimizer.step()


HEALTHY: dict[str, Program] = {
    "Reptile over the same parameters": reptile_by_hand,
    "Reptile after many fine-tuned copies": partial(reptile_by_hand, num_evaluated=70),
    "two optimizers over the same parameters": same_tensors_in_turn,
    "a critic that is trained often": critic_often,
    "frozen for a while": frozen_for_a_while,
    "evolution strategies": evolution_strategies,
    "a gradient penalty": gradient_penalty,
    "adversarial training": loop(adversarial),
    "sharpness-aware minimisation": sharpness_aware,
    "a closure": loop(with_closure),
    "LBFGS": loop(
        with_closure, optimize=lambda m: torch.optim.LBFGS(m.parameters(), lr=0.1, max_iter=5)
    ),
    "several losses at one line": loop(losses_in_a_loop, lambda: Heads(3)),
    "a head at a time": loop(a_head_at_a_time, lambda: Heads(3), adam),
    "policy gradients": loop(summed_over_an_episode, optimize=adam),
    "truncated backpropagation": truncated,
    "a target network": target_network,
    "an average within the module": loop(averaged, Averaged, adam),  # type: ignore[arg-type]
    "a frozen body": frozen_body(held_by_the_optimizer=False),
    "a frozen body that the optimizer holds": frozen_body(held_by_the_optimizer=True),
    "a linear probe": features_without_gradients,
    "layers unfrozen in turn": unfrozen_in_turn(by_group=False),
    "layers unfrozen in turn, by groups": unfrozen_in_turn(by_group=True),
    "an idle expert": loop(plain, Experts, adam),
    "an optimizer in the backward pass": in_backward,
    "mixed precision": loop(scaled(unscale=True, own_step=False)),
    "mixed precision and accumulation": loop(scaled_and_accumulated),
    "a limit that is scaled": loop(limit_is_scaled),
    "updates by hand": by_hand,
    "accumulation": loop(accumulated(4, lambda m, t: classify(m, t) / 4)),
    "a last window that is counted right": loop(
        epochs(4, 14, clear=True, flush=True, rescale=True)
    ),
    "windows counted over epochs": loop(counted_over_epochs),
    "stopped in a window": loop(stopped_in_a_window),
    "a step after each epoch with nothing left": loop(flushed_whatever_is_left),
    "bad batches are left out": loop(bad_batches_are_left_out),
    "divided by the tokens of the window": loop(divided_by_tokens),
    "losses that are divided by hand": loop(divided_by_hand),
    "clipped by hand": loop(clipped_by_hand),
    "gradients put together by hand": loop(projected),
    "gradients given by hand behind a clearing": loop(assigned),
    "noise on the gradients": loop(noisy),
    "a first step on nothing": loop(primed),
    "two optimizers of one model": two_optimizers_of_one_model,
    "two optimizers in turn": in_turn,
    "judged by a frozen network": judged_by_another_network(freeze=True),
    "judged by a network that is not frozen": judged_by_another_network(freeze=False),
    "adapters": loop(plain, adapted, adam),
    "meta-learning": reptile,
    "an autoencoder": loop(autoencoder, optimize=lambda m: sgd(m, 0.01)),
    "several epochs over a batch": several_epochs_over_a_batch,
    "a norm that is logged": loop(norm_is_logged),
    "a clip that binds now and then": loop(clipped(1.0)),
    "a clip that often binds": loop(clipped(0.1)),
}
