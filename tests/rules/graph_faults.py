"""Training programs whose fault the graph of the loss shows, and healthy ones that look like
them, in several styles.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.rules.programs import (
    NUM_CLASSES,
    WIDTH,
    Listen,
    Program,
    Residual,
    adam,
    batch,
    mlp,
    sgd,
)

LossOf = Callable[[nn.Module, Tensor, Tensor], Tensor]


def training(
    loss_of: LossOf,
    make: Callable[[], nn.Module] = lambda: mlp(3, nn.Tanh),
    optimize: Callable[[nn.Module], torch.optim.Optimizer] = sgd,
    steps: int = 24,
) -> Program:
    """The plain loop over a loss."""

    def program(listen: Listen) -> None:
        model = make()
        optimizer = optimize(model)
        with listen(model, optimizer):
            for step in range(steps):
                x, labels = batch(step)
                optimizer.zero_grad()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)
                    loss_of(model, x, labels).backward()
                optimizer.step()

    return program


def one_output() -> nn.Sequential:
    return mlp(3, nn.Tanh, outputs=1)


def soft(labels: Tensor) -> Tensor:
    """A teacher's probabilities."""
    return torch.softmax(3 * F.one_hot(labels, NUM_CLASSES).float(), 1)


class Tokens(nn.Module):
    """Four classes for each of three tokens: the sizes of batch, tokens and classes all differ."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 3 * NUM_CLASSES)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).view(-1, 3, NUM_CLASSES)


def three(labels: Tensor) -> Tensor:
    return torch.stack([labels, labels, (labels + 1) % NUM_CLASSES], 1)


class WithSoftmax(nn.Module):
    """A model that ends in probabilities, as one for showing them does."""

    def __init__(self, end: nn.Module, outputs: int = NUM_CLASSES) -> None:
        super().__init__()
        self.body, self.end = mlp(3, nn.Tanh, outputs=outputs), end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.body(x))


def checkpointed(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    from torch.utils.checkpoint import checkpoint

    probabilities = checkpoint(lambda x: torch.softmax(model(x), -1), x, use_reentrant=False)
    return F.cross_entropy(probabilities, labels)


def in_half(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return F.cross_entropy(model(x).softmax(dim=1)[:20], labels[:20], reduction="sum") / 20


def compiled(listen: Listen) -> None:
    """The model is compiled, the softmax is outside of it."""
    model = mlp(3, nn.Tanh)
    optimizer = adam(model)
    fast = torch.compile(model, backend="eager")
    with listen(model, optimizer):
        for step in range(12):
            x, labels = batch(step)
            optimizer.zero_grad()
            F.cross_entropy(fast(x).softmax(1), labels).backward()
            optimizer.step()


def mixed_terms(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """The fault is in one of three terms, added up with weights and a penalty."""
    logits = model(x)
    kl = F.kl_div(torch.softmax(logits, 1), soft(labels), reduction="batchmean")
    penalty = sum(p.pow(2).sum() for p in model.parameters())
    return 0.5 * F.cross_entropy(logits, labels) + 0.5 * kl + 1e-4 * penalty


def ctc_of(squash: Callable[[Tensor], Tensor]) -> LossOf:
    def loss(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        num = len(labels)
        steps = squash(model(x).unflatten(1, (-1, NUM_CLASSES + 1))).transpose(0, 1)
        lengths = torch.full((num,), 3), torch.ones(num, dtype=torch.long)
        return nn.CTCLoss(zero_infinity=True)(steps, labels[:, None] + 1, *lengths)

    return loss


def three_steps() -> nn.Sequential:
    return mlp(3, nn.Tanh, outputs=3 * (NUM_CLASSES + 1))


def alike(of: Callable[[Tensor], Tensor]) -> LossOf:
    """Whether two halves of a batch are of the same class."""

    def loss(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        first, second = model(x).chunk(2)
        one, other = labels.chunk(2)
        return F.cosine_embedding_loss(first, second, of((one == other).float()))

    return loss


class CosineHead(nn.Module):
    """Classes by their angle, as in recognising faces."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.body, self.scale = mlp(3, nn.Tanh, outputs=WIDTH), scale
        self.classes = nn.Parameter(torch.randn(NUM_CLASSES, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        cosine = F.linear(F.normalize(self.body(x)), F.normalize(self.classes))
        return self.scale * (cosine - 0.1)


def quantile(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    error = labels.float() - model(x)
    return torch.maximum(0.9 * error, -0.1 * error).mean()


WRONG_LOSS_INPUT: dict[str, Program] = {
    "cosines as logits": training(
        lambda m, x, y: F.cross_entropy(m(x), y), lambda: CosineHead(1.0)
    ),
    "CTC on probabilities": training(ctc_of(lambda h: h.softmax(-1)), three_steps),
    "CTC on logits": training(ctc_of(lambda h: 3 * h), three_steps),
    "CTC, log_softmax over time": training(ctc_of(lambda h: h.log_softmax(1)), three_steps),
    "pairs of 0 and 1": training(alike(lambda same: same)),
    "distances of pairs of 0 and 1": training(
        lambda m, x, y: F.hinge_embedding_loss(m(x).pow(2).sum(1), (y > 1).float())
    ),
    "soft margin of 0 and 1": training(
        lambda m, x, y: F.soft_margin_loss(m(x).squeeze(1), (y > 1).float()), one_output
    ),
    "signs in a binary cross entropy": training(
        lambda m, x, y: F.binary_cross_entropy_with_logits(m(x)[:, 0], 2 * (y > 1).float() - 1)
    ),
    "a mask of 0 and 255": training(
        lambda m, x, y: nn.BCEWithLogitsLoss()(m(x)[:, 0], 255 * (y > 1).float()),
        optimize=adam,  # by SGD it diverges, and how depends on the processor
    ),
    "softmax in the model": training(
        lambda m, x, y: nn.CrossEntropyLoss()(m(x), y), lambda: WithSoftmax(nn.Softmax(dim=1))
    ),
    "softmax, soft targets": training(
        lambda m, x, y: F.cross_entropy(torch.softmax(m(x), -1), soft(y))
    ),
    "softmax, smoothed": training(
        lambda m, x, y: F.cross_entropy(torch.softmax(m(x), -1), y, label_smoothing=0.1)
    ),
    "softmax in bf16, sliced": training(in_half),
    "softmax, checkpointed": training(checkpointed),
    "softmax, compiled model": compiled,
    "sigmoid before logits": training(
        lambda m, x, y: F.binary_cross_entropy_with_logits(
            m(x).sigmoid().squeeze(1), (y > 1).float()
        ),
        one_output,
    ),
    "sigmoid twice": training(
        lambda m, x, y: F.binary_cross_entropy(torch.sigmoid(m(x))[:, 0], (y > 1).float()),
        lambda: WithSoftmax(nn.Sigmoid(), 1),
    ),
    "nll on logits": training(lambda m, x, y: nn.NLLLoss()(m(x), y), optimize=adam),
    "nll on probabilities": training(lambda m, x, y: F.nll_loss(m(x).softmax(1), y)),
    "log_softmax over the batch": training(
        lambda m, x, y: F.nll_loss(F.log_softmax(m(x), dim=0), y)
    ),
    "kl of probabilities": training(
        lambda m, x, y: nn.KLDivLoss(reduction="batchmean")(m(x).softmax(1), soft(y))
    ),
    "kl of probabilities, log target": training(
        lambda m, x, y: F.kl_div(m(x).softmax(1), soft(y).log(), log_target=True)
    ),
    "kl among other terms": training(mixed_terms),
    "mse of a column": training(lambda m, x, y: nn.MSELoss()(m(x), y.float()), one_output),
    "huber of a row": training(
        lambda m, x, y: F.huber_loss(m(x)[:, 0], y.float()[:, None]), one_output
    ),
    "l1 by hand": training(lambda m, x, y: (m(x) - y.float()).abs().mean(), one_output),
    "rmse by hand": training(lambda m, x, y: ((y.float() - m(x)) ** 2).mean().sqrt(), one_output),
    "classes by view": training(
        lambda m, x, y: F.cross_entropy(m(x).view(-1, NUM_CLASSES, 3), three(y)), Tokens
    ),
    "rows that mix classes": training(
        lambda m, x, y: F.cross_entropy(
            m(x).transpose(1, 2).reshape(-1, NUM_CLASSES), three(y).flatten()
        ),
        Tokens,
    ),
    "quantile loss by hand": training(quantile, one_output),
}


# SG109


def with_bias_after(cut: Callable[[Tensor], Tensor]) -> LossOf:
    """A network with something between its layers that no gradient passes."""

    def loss_of(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        assert isinstance(model, nn.Sequential)
        return F.cross_entropy(model[2:](cut(model[:2](x))), labels)

    return loss_of


def self_ratio(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """PPO's ratio whose old side was not detached."""
    new = F.log_softmax(model(x), 1).gather(1, labels[:, None])
    old = F.log_softmax(model(x), 1).gather(1, labels[:, None])
    return -(torch.exp(new - old) * (labels[:, None] - 1.5)).mean()


def boxes_apart(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """An IoU loss of boxes that are far from their targets."""
    low, size = model(x).split(2, 1)
    high = low + size.exp()
    target = 50.0 + labels[:, None] + torch.tensor([[0.0, 0.0]])
    sides = (torch.minimum(high, target + 3) - torch.maximum(low, target)).clamp(min=0)
    overlap = sides.prod(1)
    return (1 - overlap / ((high - low).prod(1) + 9 - overlap)).mean()


def masked_labels(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(model(x), torch.full_like(labels, -100), reduction="sum") / 32


class Adapter(nn.Module):
    """A low-rank adapter beside a frozen layer."""

    def __init__(self, a: float, rank: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.frozen = nn.Linear(WIDTH, NUM_CLASSES).requires_grad_(False)
        self.down = nn.Parameter(a * torch.randn(rank, WIDTH))
        self.up = nn.Parameter(torch.zeros(NUM_CLASSES, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.frozen(x) + x @ self.down.T @ self.up.T


def trainable_adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], 1e-2, weight_decay=0.0
    )


def silenced() -> nn.Sequential:
    model = mlp(3, nn.Tanh, outputs=1)
    nn.init.constant_(model[-1].bias, -50.0)
    return model.append(nn.ReLU())


def all_zeros() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(WIDTH, 8, bias=False), nn.Linear(8, NUM_CLASSES, bias=False))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def alike_rewards(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """GRPO: the rewards of a group are all alike, so its advantages are zero."""
    rewards = torch.ones(32)
    advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
    log_prob = F.log_softmax(model(x), 1).gather(1, labels[:, None])[:, 0]
    return -(torch.exp(log_prob - log_prob.detach()) * advantages).mean()


class ClippedSign(torch.autograd.Function):
    """Straight through between -1 and 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * (x.abs() <= 1)


class Gated(nn.Module):
    """Binary gates beside a plain branch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.gates = nn.Linear(WIDTH, 16), nn.Linear(WIDTH, 8)
        self.head = nn.Linear(24, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        gates = ClippedSign.apply(self.gates(x))
        return self.head(torch.cat([torch.tanh(self.body(x)), gates], 1))


def saturated(since: int, until: int = 1000, steps: int = 110) -> Program:
    """All inputs of the gates leave the interval at a step, and come back."""

    def program(listen: Listen) -> None:
        model = Gated()
        optimizer = sgd(model, lr=0.01)
        with listen(model, optimizer):
            for step in range(steps):
                x, labels = batch(step)
                if step in (since, until):
                    with torch.no_grad():
                        model.gates.bias += 50.0 if step == since else -50.0
                optimizer.zero_grad()
                F.cross_entropy(model(x), labels).backward()
                optimizer.step()

    return program


class Quantized(nn.Module):
    """A codebook whose loss is computed from the result of the straight-through estimator."""

    def __init__(self, by_hand: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Linear(WIDTH, 8), nn.Linear(8, NUM_CLASSES)
        self.codes, self.by_hand = nn.Embedding(12, 8), by_hand

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.body(x)
        nearest = torch.cdist(z, self.codes.weight).argmin(1)
        q = self.codes(nearest)
        z_q = z + (q - z).detach()
        if self.by_hand:
            self.codes.weight.data[nearest] += 0.1 * (z - q).detach()
        return self.head(z_q), F.mse_loss(z_q, z.detach())


def quantized(by_hand: bool) -> Program:
    def loss_of(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        logits, loss = model(x)
        return F.cross_entropy(logits, labels) + loss

    return training(loss_of, lambda: Quantized(by_hand), adam, steps=34)


class Pooled(nn.Module):
    """Features of an image of one position, normalized in groups."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.norm = nn.Linear(WIDTH, 8), norm
        self.head = nn.Linear(8, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        y = self.norm(y if isinstance(self.norm, nn.GroupNorm) else y[..., None]).flatten(1)
        return self.head(torch.relu(y))


CONSTANT_NORM: dict[str, tuple[str, Program]] = {
    "group norm": (
        "model.norm = nn.GroupNorm(1, 8)",
        training(lambda m, x, y: F.cross_entropy(m(x), y), lambda: Pooled(nn.GroupNorm(8, 8))),
    ),
    "layer norm": (
        "model.norm = nn.Identity()",
        training(lambda m, x, y: F.cross_entropy(m(x), y), lambda: Pooled(nn.LayerNorm(1))),
    ),
}

ZERO_GRADIENT: dict[str, Program] = {
    "softmax of one": training(
        lambda m, x, y: F.binary_cross_entropy(
            torch.softmax(m(x), dim=-1).squeeze(-1), (y > 1).float()
        ),
        one_output,
    ),
    "one class": training(lambda m, x, y: F.cross_entropy(m(x), torch.zeros_like(y)), one_output),
    "ratio of live": training(self_ratio),
    "labels masked": training(masked_labels),
    "boxes apart": training(boxes_apart),
    "softmax over the wrong dimension": training(
        lambda m, x, y: F.nll_loss(torch.cat([m(row).softmax(0).log() for row in x[:, None]]), y)
    ),
    "both factors zero": training(
        lambda m, x, y: F.cross_entropy(m(x), y), lambda: Adapter(0.0), trainable_adam
    ),
    "last relu negative": training(lambda m, x, y: F.mse_loss(m(x)[:, 0], y.float()), silenced),
    "last clamp": training(
        lambda m, x, y: F.mse_loss((m(x)[:, 0] + 9).clamp(-1, 1), y.float()), one_output
    ),
    "rounded output": training(
        lambda m, x, y: F.mse_loss(torch.round(m(x)[:, 0]), y.float()), one_output
    ),
    "weights of zeros": training(lambda m, x, y: F.cross_entropy(m(x), y), all_zeros),
    "alike rewards": training(alike_rewards, optimize=adam),
    "loss times zero": training(lambda m, x, y: 0.0 * F.cross_entropy(m(x), y)),
    "compared with itself": training(lambda m, x, y: F.mse_loss(m(x), m(x))),
    "sign inside": training(with_bias_after(torch.sign)),
    "round inside": training(with_bias_after(lambda h: torch.round(4 * h) / 4), optimize=adam),
    "straight through, not detached": training(
        with_bias_after(lambda h: h + (torch.round(4 * h) / 4 - h))
    ),
}


class ActorCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.actor, self.critic = mlp(3, nn.Tanh), mlp(3, nn.Tanh, outputs=1)


def ppo_of_live(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """PPO that computes the old log-probabilities anew, beside a critic that learns."""
    assert isinstance(model, ActorCritic)
    value = F.mse_loss(model.critic(x)[:, 0], labels.float())
    entropy = torch.distributions.Categorical(logits=model.actor(x)).entropy().mean()
    return self_ratio(model.actor, x, labels) + 0.5 * value - 0.0 * entropy


class Headed(nn.Module):
    """An adapter, and a head after it that trains as well."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.adapter, self.head = Adapter(a), nn.Linear(NUM_CLASSES, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.adapter(x)))


def zeroed(activation: type[nn.Module], first: int = 0) -> nn.Sequential:
    """Zeros from this layer on, also in the biases."""
    model = mlp(4, activation)
    for parameter in model[first:].parameters():
        nn.init.zeros_(parameter)
    return model


def ended_by_zeros() -> nn.Sequential:
    """A residual block and a last layer that begin as nothing."""
    model = mlp(4, nn.Tanh)
    inner = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
    model.insert(2, Residual(inner))
    for layer in (inner[2], model[-1]):
        nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
    return model


# weights of zeros while others train
ZERO_WEIGHTS: dict[str, tuple[Program, tuple[str, ...]]] = {
    "relu": (
        training(lambda m, x, y: F.cross_entropy(m(x), y), lambda: zeroed(nn.ReLU)),
        ("0.weight", "2.weight", "4.weight", "6.weight"),
    ),
    "tanh, from the middle on": (
        training(lambda m, x, y: F.cross_entropy(m(x), y), lambda: zeroed(nn.Tanh, 4), adam),
        ("4.weight", "6.weight"),
    ),
    "adapter with a head": (
        training(lambda m, x, y: F.cross_entropy(m(x), y), lambda: Headed(0.0), trainable_adam, 80),
        ("adapter.down", "adapter.up"),
    ),
}


# SG311


def condition_never_true(listen: Listen) -> None:
    model = mlp(3, nn.ReLU)
    optimizer = adam(model)
    with listen(model, optimizer):
        for step in range(12):
            x, labels = batch(step)
            optimizer.zero_grad()
            F.cross_entropy(model(x), labels).backward()
            if step == 1000:
                optimizer.step()


def within_a_function(listen: Listen) -> None:
    """Its optimizer is gone at the end of the run."""
    with listen():
        condition_never_true(lambda *_: nullcontext())


class Trainer:
    """Two optimizers, of which `fit` steps the first; as with Lightning's manual optimization."""

    def __init__(self) -> None:
        self.encoder, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, NUM_CLASSES)
        self.optimizers = [
            torch.optim.Adam(self.encoder.parameters()),
            torch.optim.SGD(self.head.parameters(), 0.1),
        ]

    def fit(self, steps: int) -> None:
        for step in range(steps):
            x, labels = batch(step)
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            F.cross_entropy(self.head(torch.tanh(self.encoder(x))), labels).backward()
            self.optimizers[1].step()


def one_of_two(listen: Listen) -> None:
    trainer = Trainer()
    with listen(trainer.encoder, trainer.head, *trainer.optimizers):
        trainer.fit(12)


def rebound(listen: Listen) -> None:
    """A model updated by hand through a list of its parameters, of which the loop only changes
    the names.
    """
    torch.manual_seed(0)
    model = mlp(3, nn.ReLU)
    with listen():
        for step in range(24):
            x, labels = batch(step)
            model.zero_grad()
            F.cross_entropy(model(x), labels).backward()
            weights = list(model.parameters())
            for position, weight in enumerate(weights):
                weights[position] = weight.data - 0.1 * weight.grad


def copied(listen: Listen) -> None:
    """Plain tensors; the update goes into a copy."""
    torch.manual_seed(0)
    weight, bias = (
        torch.zeros(WIDTH, NUM_CLASSES, requires_grad=True),
        torch.zeros(NUM_CLASSES, requires_grad=True),
    )
    with listen():
        for step in range(24):
            x, labels = batch(step)
            weight.grad = bias.grad = None
            F.cross_entropy(x @ weight + bias, labels).backward()
            for each in (weight, bias):
                each.detach().clone().sub_(0.1 * each.grad)


NEVER_STEPPED: dict[str, Program] = {
    "a condition that is never true": condition_never_true,
    "within a function": within_a_function,
    "one of two": one_of_two,
    "names rebound": rebound,
    "copies changed": copied,
}


class InHooks(torch.optim.Optimizer):
    """Updates in hooks, within the backward, and has no step (LOMO)."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(params, {"lr": lr})
        for weight in self.param_groups[0]["params"]:
            weight.register_hook(self.update)

    @torch.no_grad()
    def update(self, gradient: Tensor) -> Tensor:
        for weight in self.param_groups[0]["params"]:
            if weight.grad is not None:
                weight.data.sub_(weight.grad, alpha=self.param_groups[0]["lr"])
                weight.grad = None
        return gradient


def updated_in_hooks(listen: Listen) -> None:
    torch.manual_seed(0)
    model = mlp(3, nn.ReLU)
    optimizer = InHooks(model.parameters(), 0.1)
    with listen(model, optimizer):
        for step in range(12):
            x, labels = batch(step)
            loss = F.cross_entropy(model(x), labels)
            loss.backward()
            optimizer.update(loss)


def saliency(listen: Listen) -> None:
    """Gradients of inputs, of a model that stays as it is."""
    model = mlp(3, nn.ReLU)
    with listen():
        for step in range(30):
            x, labels = batch(step)
            F.cross_entropy(model(x.requires_grad_()), labels).backward()


def new_leaves(listen: Listen) -> None:
    """By hand, with a new tensor for each step, rightly."""
    weight = torch.zeros(WIDTH, NUM_CLASSES, requires_grad=True)
    with listen():
        for step in range(30):
            x, labels = batch(step)
            F.cross_entropy(x @ weight, labels).backward()
            weight = (weight - 0.1 * weight.grad).detach().requires_grad_()


def by_hand(listen: Listen) -> None:
    model = mlp(3, nn.ReLU)
    with listen():
        for step in range(30):
            x, labels = batch(step)
            model.zero_grad()
            F.cross_entropy(model(x), labels).backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 0.1 * parameter.grad


def second_over_the_same(listen: Listen) -> None:
    """A second optimizer over the same parameters that is kept for later and never comes."""
    model = mlp(3, nn.ReLU)
    optimizer, later = adam(model), sgd(model)
    with listen(model, optimizer, later):
        for step in range(12):
            x, labels = batch(step)
            optimizer.zero_grad()
            F.cross_entropy(model(x), labels).backward()
            optimizer.step()


# SG403


def switched_by_name(listen: Listen) -> None:
    """After some training the body is to be frozen: one letter is missing."""
    model = mlp(3, nn.ReLU)
    optimizer = adam(model)
    with listen(model, optimizer):
        for step in range(40):
            if step == 6:
                for parameter in model[:4].parameters():
                    parameter.require_grad = False  # type: ignore[attr-defined]
            x, labels = batch(step)
            optimizer.zero_grad()
            F.cross_entropy(model(x), labels).backward()
            optimizer.step()


def unfrozen_as_a_module(listen: Listen) -> None:
    """All is frozen, then the head is to train; `requires_grad` is set on the module."""
    model = nn.ModuleDict(
        {
            "body": mlp(3, nn.ReLU, outputs=WIDTH),
            "scale": nn.LayerNorm(WIDTH),
            "head": nn.Linear(WIDTH, NUM_CLASSES),
        }
    )
    model["body"].requires_grad_(False)
    model["head"].requires_grad_(False)
    model["head"].requires_grad = True  # type: ignore[assignment]
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
    with listen(model, optimizer):
        for step in range(24):
            x, labels = batch(step)
            optimizer.zero_grad()
            F.cross_entropy(model["head"](model["scale"](model["body"](x))), labels).backward()
            optimizer.step()


def frozen_later_as_a_module(listen: Listen) -> None:
    model = mlp(4, nn.ReLU)
    optimizer = sgd(model)
    with listen(model, optimizer):
        for step in range(40):
            if step == 12:
                model[0].requires_grad = False
            x, labels = batch(step)
            optimizer.zero_grad()
            F.cross_entropy(model(x), labels).backward()
            optimizer.step()


SWITCHED: dict[str, tuple[Program, tuple[str, ...]]] = {
    "a letter is missing": (switched_by_name, ("0.weight", "0.bias", "2.weight", "2.bias")),
    "a module unfrozen": (unfrozen_as_a_module, ("head.weight", "head.bias")),
    "a module frozen later": (frozen_later_as_a_module, ("0.weight", "0.bias")),
}


# SG401


def unfrozen_later(listen: Listen) -> None:
    """The body is unfrozen when the head has warmed up, and nobody tells the optimizer."""
    model = mlp(3, nn.ReLU)
    model[:4].requires_grad_(False)
    optimizer = torch.optim.Adam(filter(lambda p: p.requires_grad, model.parameters()), 1e-2)
    with listen(model, optimizer):
        for step in range(60):
            if step == 15:
                model.requires_grad_(True)
            x, labels = batch(step)
            optimizer.zero_grad()
            F.cross_entropy(model(x), labels).backward()
            optimizer.step()


class Codec(nn.Module):
    """A small encoder and a large decoder."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(WIDTH, 4), nn.Tanh())
        self.decoder = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


def forgotten_decoder(listen: Listen) -> None:
    model = Codec()
    optimizer = torch.optim.Adam(model.encoder.parameters(), 1e-2)
    with listen(model, optimizer):
        for step in range(24):
            x, _ = batch(step)
            optimizer.zero_grad()
            model.zero_grad()
            F.mse_loss(model(x), x).backward()
            optimizer.step()


def thawed_in_the_second_stage(listen: Listen) -> None:
    """Another optimizer had them before."""
    model = mlp(3, nn.ReLU)
    with listen():
        for stage in range(2):
            model[:4].requires_grad_(stage == 0)
            optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.05)
            for step in range(40):
                if step == 10:
                    model.requires_grad_()
                x, labels = batch(step)
                model.zero_grad()
                F.cross_entropy(model(x), labels).backward()
                optimizer.step()


def cut_in_the_second_stage(listen: Listen) -> None:
    """Another optimizer has trained them before."""
    model = mlp(3, nn.ReLU)
    with listen():
        for stage in range(2):
            optimizer = torch.optim.SGD(model[2 * stage :].parameters(), 0.05)
            for step in range(40):
                x, labels = batch(step)
                h = model[:4](x)
                optimizer.zero_grad()
                F.cross_entropy(model[4:](h.detach() if stage else h), labels).backward()
                optimizer.step()


NOT_OPTIMIZED: dict[str, tuple[Program, str]] = {
    "unfrozen later": (unfrozen_later, "0.weight"),
    "forgotten decoder": (forgotten_decoder, "decoder.0.weight"),
}


# SG802


def detached_student(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """Distillation: the soft loss gets a copy of the student's logits."""
    logits = model(x)
    soft_loss = F.kl_div(F.log_softmax(logits.detach() / 2, 1), soft(labels), reduction="batchmean")
    return 0.3 * F.cross_entropy(logits, labels) + 0.7 * 4 * soft_loss


def item_of_a_term(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    reconstruction = F.mse_loss(model(x)[:, 0], labels.float())
    smooth = (model(x + 0.5) - model(x)).pow(2).mean().item()
    return reconstruction + 2.0 * smooth


class BesideUnknown:
    """The value of the other term is not known from what its graph saved."""

    def energy_of(self, model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        energy = (model(x) ** 2 + labels[:, None]).logsumexp(1).mean().cos() + 1
        with torch.no_grad():
            smooth = (model(x + 0.5) - model(x)).pow(2).mean()
        return energy + 2.0 * smooth

    def __call__(self, listen: Listen) -> None:
        model = one_output()
        optimizer = sgd(model)
        with listen(model, optimizer):
            for step in range(24):
                optimizer.zero_grad()
                self.energy_of(model, *batch(step)).backward()
                optimizer.step()


def penalty_without_graph(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """A gradient penalty without create_graph=True, its loss in a list that is summed."""
    x = x.clone().requires_grad_()
    out = model(x)
    (slope,) = torch.autograd.grad(out.sum(), x, retain_graph=True)
    terms = [
        F.binary_cross_entropy_with_logits(out[:, 0], (labels > 1).float()),
        10 * ((slope.norm(dim=1) - 1) ** 2).mean(),
    ]
    return sum(terms)  # type: ignore[return-value]


class Distiller:
    """Compares the teacher with the teacher, which is zero, in a loss that is not all of it."""

    def __init__(self) -> None:
        self.student, self.teacher = mlp(2, nn.Tanh), mlp(3, nn.Tanh)
        self.teacher.requires_grad_(False)
        self.divergence = nn.KLDivLoss(reduction="batchmean", log_target=True)

    def __call__(self, listen: Listen) -> None:
        optimizer = sgd(self.student)
        with listen():
            for step in range(24):
                x, labels = batch(step)
                wanted = F.log_softmax(self.teacher(x) / 3, dim=1)
                given = F.log_softmax(self.teacher(x) / 3, dim=1)
                imitation = 9 * self.divergence(given, wanted)
                hard = F.cross_entropy(self.student(x), labels)
                optimizer.zero_grad()
                (0.5 * imitation + 0.5 * hard).backward()
                optimizer.step()


def started_with_zeros(listen: Listen) -> None:
    """A sum that begins with a tensor of zero, an auxiliary loss that is switched off, and a loss
    that is only logged.
    """
    model = mlp(3, nn.Tanh)
    optimizer = sgd(model)
    with listen(model, optimizer):
        for step in range(24):
            x, labels = batch(step)
            total, auxiliary_loss = torch.zeros(()), torch.tensor(0.0)
            logits = model(x)
            with torch.no_grad():
                logged_loss = F.mse_loss(logits.softmax(1), F.one_hot(labels, 4).float())
            total = total + F.cross_entropy(logits, labels) + 0.1 * auxiliary_loss
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            assert logged_loss > 0


def gradient_penalty(model: nn.Module, x: Tensor) -> Tensor:
    inputs = x.clone().requires_grad_()
    scores = model(inputs)
    (gradient,) = torch.autograd.grad(scores.sum(), inputs, retain_graph=True)
    return ((gradient.norm(2, dim=1) - 1) ** 2).mean()


def wasserstein(listen: Listen) -> None:
    """A critic whose gradient penalty has no graph of its own."""
    critic = one_output()
    optimizer = adam(critic)
    with listen(critic, optimizer):
        for step in range(24):
            x, labels = batch(step)
            penalty = gradient_penalty(critic, x)
            loss = critic(x[labels > 1]).mean() - critic(x[labels <= 1]).mean() + 10 * penalty
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


CONSTANT_TERM: dict[str, Program] = {
    "a first-order gradient penalty": wasserstein,
    "the teacher twice": Distiller(),
    "a detached student": training(detached_student),
    "an item": training(item_of_a_term, one_output),
    "beside what is not recomputed": BesideUnknown(),
    "a penalty without a graph": training(penalty_without_graph, one_output),
}


def with_constants(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """A sum that begins with zeros, a fixed number, a baseline and the entropy of the targets,
    which are subtracted.
    """
    total = torch.zeros(())
    target = soft(labels) * torch.rand(32, 1) + 0.1
    target = target / target.sum(1, keepdim=True)
    total = total + 0.5 * F.cross_entropy(model(x), target) + 0.25
    entropy = -(target * target.log()).sum(1).mean()
    return total - 0.5 * entropy - labels.float().mean()


def with_what_is_not_recomputed(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """A fixed number, and a target without a graph, beside a term whose value is not known."""
    with torch.no_grad():
        target = model(x + 0.01)
    distance = F.mse_loss(model(x), target + labels[:, None])
    return (model(x) ** 2).logsumexp(1).mean().cos() + 0.1 * distance + 1


# SG310


def halved() -> nn.Sequential:
    """Hooks that divide by the number of processes, of which there is one left."""
    model = mlp(3, nn.ReLU)
    for parameter in model.parameters():
        parameter.register_hook(lambda grad: grad / 4)
    return model


class Scaled(nn.Module):
    """Hooks made in the model itself, one for all of its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp(3, nn.Tanh)
        for parameter in self.parameters():
            parameter.register_hook(self.scale)

    def scale(self, grad: Tensor) -> Tensor:
        return 0.1 * grad

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


HOOKED: dict[str, tuple[Program, float]] = {
    "divided": (training(lambda m, x, y: F.cross_entropy(m(x), y), halved), 0.25),
    "scaled in the model": (training(lambda m, x, y: F.cross_entropy(m(x), y), Scaled, adam), 0.1),
}


def watched_by_hooks() -> nn.Sequential:
    """Hooks that look, clamp to what is never reached, and scale one layer only."""
    model = mlp(3, nn.ReLU)
    for parameter in model.parameters():
        parameter.register_hook(lambda grad: grad.clamp(-1e3, 1e3))
    model[0].weight.register_hook(lambda grad: 0.5 * grad)
    return model


class Detached(nn.Module):
    """A forward pass that cuts its graph."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Cut it after the body."""
        h = torch.tanh(self.body(x))
        return self.head(h.detach())


class WithoutGrad(Detached):
    """The same by a block, beside which a second one only looks."""

    def forward(self, x: Tensor) -> Tensor:
        """Cut it in the body."""
        with torch.no_grad():
            h = torch.tanh(self.body(x))
        with torch.no_grad():
            self.size = h.norm()
        return self.head(h)


class OwnSwitch(nn.Sequential):
    """A class with an attribute of that name for itself, whose value is what is so."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.requires_grad = True  # type: ignore[assignment]


def frozen_body() -> nn.Sequential:
    layers = list(mlp(3, nn.ReLU))
    return nn.Sequential(OwnSwitch(*layers[:4]).requires_grad_(False), layers[4])


def straight_through(h: Tensor) -> Tensor:
    return h + (torch.sign(h) - h).detach()


def kept_margin(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """A hinge that all samples keep from the start: the loss is zero, and there is nothing to
    learn.
    """
    return F.relu(0.0 - (model(x)[:, 0] + 99)).mean()


def sometimes_alike(listen: Listen) -> None:
    """GRPO whose rewards are all alike at three steps of four."""
    model = mlp(3, nn.Tanh)
    optimizer = adam(model)
    with listen(model, optimizer):
        for step in range(40):
            x, labels = batch(step)
            rewards = torch.ones(32) if step % 4 else labels.float()
            advantages = rewards - rewards.mean()
            log_prob = F.log_softmax(model(x), 1).gather(1, labels[:, None])[:, 0]
            optimizer.zero_grad()
            (-(log_prob * advantages).mean()).backward()
            optimizer.step()


def entropies(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy, its probabilities in a bonus, a focal factor and a dice term: all of them
    rightly.
    """
    logits = model(x)
    probabilities, log = torch.softmax(logits, 1), F.log_softmax(logits, 1)
    bonus = -(probabilities * log).sum(1).mean()
    picked = probabilities.gather(1, labels[:, None])[:, 0]
    focal = ((1 - picked) ** 2 * -log.gather(1, labels[:, None])[:, 0]).mean()
    target = F.one_hot(labels, NUM_CLASSES).float()
    dice = 1 - 2 * (probabilities * target).sum() / (probabilities + target).sum()
    return (
        F.cross_entropy(logits, labels)
        + focal
        + dice
        - 0.01 * bonus
        + F.kl_div(log, soft(labels), reduction="batchmean")
    )


def pairs(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """Squared differences of all pairs, which are meant: distances, and a variance."""
    out = model(x)
    distance = ((out - out.T) ** 2).mean()
    spread = ((out - out.mean(0)) ** 2).mean()
    return (
        F.mse_loss(out[:, 0], labels.float())
        + 0.01 * distance
        + 0.01 * spread
        + 0.01 * (out**2).mean()
    )


HEALTHY: dict[str, Program] = {
    "weights that hooks update": updated_in_hooks,
    "gates that never passed anything": saturated(0),
    "gates that came back": saturated(20, 70),
    "two channels per group": training(
        lambda m, x, y: F.cross_entropy(m(x), y), lambda: Pooled(nn.GroupNorm(4, 8))
    ),
    "cosines with a scale": training(
        lambda m, x, y: F.cross_entropy(m(x), y), lambda: CosineHead(16.0)
    ),
    "CTC": training(ctc_of(lambda h: h.log_softmax(-1)), three_steps),
    "pairs of 1 and -1": training(alike(lambda same: 2 * same - 1)),
    "distances of pairs of 1 and -1": training(
        lambda m, x, y: F.hinge_embedding_loss(m(x).pow(2).sum(1), 2 * (y > 1).float() - 1)
    ),
    "a GAN's noisy labels": training(
        lambda m, x, y: F.binary_cross_entropy_with_logits(
            m(x)[:, 0], 0.7 + 0.5 * torch.rand(len(y)) * (y > 1)
        )
    ),
    "log_softmax twice": training(lambda m, x, y: F.cross_entropy(F.log_softmax(m(x), 1), y)),
    "entropies": training(entropies),
    "bce of probabilities": training(
        lambda m, x, y: F.binary_cross_entropy(torch.sigmoid(m(x)[:, 0]), (y > 1).float()),
        one_output,
    ),
    "log of a mixture": training(
        lambda m, x, y: F.nll_loss(torch.log(0.9 * m(x).softmax(1) + 0.025), y)
    ),
    "log_softmax of views": training(
        lambda m, x, y: F.nll_loss(
            F.log_softmax(m(x), -1).view(-1, NUM_CLASSES), three(y).view(-1)
        ),
        Tokens,
    ),
    "classes by transpose": training(
        lambda m, x, y: F.cross_entropy(m(x).transpose(1, 2), three(y)), Tokens
    ),
    "gated by softmax": training(lambda m, x, y: F.cross_entropy(m(x) * torch.softmax(m(x), 1), y)),
    "pairs": training(pairs, one_output),
    "columns": training(lambda m, x, y: F.mse_loss(m(x), y.float()[:, None]), one_output),
    "one factor zero": training(
        lambda m, x, y: F.cross_entropy(m(x), y), lambda: Adapter(1.0), trainable_adam
    ),
    "one factor zero, with a head": training(
        lambda m, x, y: F.cross_entropy(m(x), y), lambda: Headed(1.0), trainable_adam, 80
    ),
    "last of the block and of all zero": training(
        lambda m, x, y: F.cross_entropy(m(x), y), ended_by_zeros
    ),
    "straight through": training(with_bias_after(straight_through)),
    "ratio with a constant": training(
        lambda m, x, y: (
            -(
                torch.exp((p := F.log_softmax(m(x), 1).gather(1, y[:, None])) - p.detach())
                * (y[:, None] - 1.5)
            ).mean()
        )
    ),
    "kept margin": training(kept_margin, one_output),
    "sometimes alike": sometimes_alike,
    "saliency": saliency,
    "hooks": training(lambda m, x, y: F.cross_entropy(m(x), y), watched_by_hooks),
    "constants": training(with_constants),
    "beside a term that is not recomputed": training(with_what_is_not_recomputed, one_output, adam),
    "started with zeros": started_with_zeros,
    "two terms": training(
        lambda m, x, y: F.cross_entropy(m(x), y) + 0.1 * F.mse_loss(m(x)[:, 0], y.float() - 1.5)
    ),
    "frozen rightly": training(
        lambda m, x, y: F.cross_entropy(m(x), y), frozen_body, trainable_adam
    ),
    "new leaves": new_leaves,
    "by hand": by_hand,
    "second over the same": second_over_the_same,
}
