"""Training loops with one fault each; the code says which rule names it. `listen(model,
optimizer, …)` is what watches them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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

Optimizer = torch.optim.Optimizer
Loop = Callable[[nn.Module, Optimizer], None]


def loop(
    body: Loop,
    make: Callable[[], nn.Module] = lambda: mlp(3, nn.ReLU),
    optimize: Callable[[nn.Module], Optimizer] = sgd,
) -> Program:
    """A model and an optimizer, watched, and what trains them."""

    def program(listen: Listen) -> None:
        model = make()
        optimizer = optimize(model)
        with listen(model, optimizer):
            body(model, optimizer)

    return program


# SG302


def cleared_by_the_module(model: nn.Module, optimizer: Optimizer) -> None:
    for step in range(12):
        classify(model, step).backward()
        model.zero_grad()
        optimizer.step()


def cleared_to_zero(model: nn.Module, optimizer: Optimizer) -> None:
    for step in range(12):
        classify(model, step).backward()
        optimizer.zero_grad(set_to_none=False)
        optimizer.step()


def cleared_by_hand(model: nn.Module, optimizer: Optimizer) -> None:
    for step in range(12):
        classify(model, step).backward()
        for parameter in model.parameters():
            parameter.grad = None
        optimizer.step()


def zeroed_by_hand(model: nn.Module, optimizer: Optimizer) -> None:
    for step in range(12):
        classify(model, step).backward()
        for parameter in model.parameters():
            parameter.grad.zero_()
        optimizer.step()


def cleared_at_the_end_of_a_window(model: nn.Module, optimizer: Optimizer) -> None:
    for step in range(24):
        (classify(model, step) / 4).backward()
        if (step + 1) % 4 == 0:
            optimizer.zero_grad()
            optimizer.step()


def cleared_for_each_micro_batch(model: nn.Module, optimizer: Optimizer) -> None:
    for step in range(24):
        optimizer.zero_grad()
        (classify(model, step) / 4).backward()
        if (step + 1) % 4 == 0:
            optimizer.step()


def wrong_of_two(listen: Listen) -> None:
    """Of an encoder and a head with optimizers of their own, one is cleared after the common
    backward.
    """
    encoder, head = mlp(3, nn.ReLU, outputs=WIDTH), nn.Linear(WIDTH, NUM_CLASSES)
    opt_encoder, opt_head = adam(encoder), adam(head)
    with listen(encoder, head, opt_encoder, opt_head):
        for step in range(15):
            x, labels = batch(step)
            opt_encoder.zero_grad()
            F.cross_entropy(head(encoder(x)), labels).backward()
            opt_head.zero_grad()
            opt_encoder.step()
            opt_head.step()


# SG303
def never_thawed(listen: Listen) -> None:
    """A GAN that freezes its discriminator for the step of the generator, and forgets it so."""
    torch.manual_seed(0)
    generator, critic = mlp(3, nn.ReLU, outputs=WIDTH), mlp(3, nn.LeakyReLU, outputs=1)
    opt_g, opt_d = adam(generator, 1e-3), adam(critic, 1e-3)
    judge = nn.BCEWithLogitsLoss()
    with listen(generator, critic, opt_g, opt_d):
        for step in range(70):
            fake = generator(torch.randn(32, WIDTH))
            opt_d.zero_grad()
            real = judge(critic(batch(step)[0]), torch.ones(32, 1))
            (real + judge(critic(fake), torch.zeros(32, 1))).backward()
            opt_d.step()
            critic.requires_grad_(False)
            opt_g.zero_grad()
            judge(critic(generator(torch.randn(32, WIDTH))), torch.ones(32, 1)).backward()
            opt_g.step()


def stepped_twice(model: nn.Module, optimizer: Optimizer) -> None:
    for step in range(12):
        optimizer.zero_grad()
        classify(model, step).backward()
        optimizer.step()
        optimizer.step()


def stepped_for_each_batch_of_a_window(model: nn.Module, optimizer: Optimizer) -> None:
    for step in range(24):
        if step % 4 == 0:
            optimizer.zero_grad()
            classify(model, step).backward()
        optimizer.step()


def never_backward(model: nn.Module, optimizer: Optimizer) -> None:
    classify(model, 0).backward()
    for step in range(12):
        optimizer.zero_grad()
        classify(model, step)
        optimizer.step()


def an_exception_on_the_way(model: nn.Module, optimizer: Optimizer) -> None:
    for step in range(30):
        try:
            if step in (9, 17):
                raise RuntimeError("out of memory")
            optimizer.zero_grad()
            classify(model, step).backward()
        except RuntimeError:
            pass
        optimizer.step()


# SG304


def clipped_after_the_step(model: nn.Module, optimizer: Optimizer) -> None:
    for step in range(12):
        optimizer.zero_grad()
        classify(model, step).backward()
        optimizer.step()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)


def clipped_before_backward(model: nn.Module, optimizer: Optimizer) -> None:
    for step in range(12):
        optimizer.zero_grad()
        loss = classify(model, step)
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        loss.backward()
        optimizer.step()


def clipped_by_value_after_the_step(model: nn.Module, optimizer: Optimizer) -> None:
    for step in range(12):
        classify(model, step).backward()
        optimizer.step()
        nn.utils.clip_grad_value_(model.parameters(), 0.01)
        optimizer.zero_grad()


def clipped_with_an_empty_generator(listen: Listen) -> None:
    model = mlp(3, nn.ReLU)
    parameters = model.parameters()
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    with listen(model, optimizer):
        for step in range(12):
            optimizer.zero_grad()
            classify(model, step).backward()
            with warnings.catch_warnings(action="ignore"):
                nn.utils.clip_grad_norm_(parameters, 0.1)
            optimizer.step()


# SG305, SG306


def scaled(unscale: bool, own_step: bool, clip: float | None = 1.0, fresh: bool = True) -> Loop:
    """Mixed precision; `own_step`: `optimizer.step()` instead of the scaler's."""

    def body(model: nn.Module, optimizer: Optimizer) -> None:
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        for step in range(12):
            optimizer.zero_grad()
            scaler.scale(classify(model, step)).backward()
            if unscale:
                scaler.unscale_(optimizer)
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            if own_step:
                optimizer.step()
            else:
                scaler.step(optimizer)
                scaler.update()

    return body


def scaled_accumulation(model: nn.Module, optimizer: Optimizer) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=4096.0)
    for step in range(24):
        scaler.scale(classify(model, step) / 2).backward()
        if step % 2:
            nn.utils.clip_grad_value_(model.parameters(), 0.5)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()


# SG307 to SG310


def accumulated(
    num: int, loss_of: Callable[[nn.Module, int], Tensor], windows: int = 8, by_hand: float = 1.0
) -> Loop:
    """`by_hand`: what the gradients are multiplied by before the step."""

    def body(model: nn.Module, optimizer: Optimizer) -> None:
        optimizer.zero_grad()
        for step in range(num * windows):
            loss_of(model, step).backward()
            if (step + 1) % num == 0:
                if by_hand != 1.0:
                    for parameter in model.parameters():
                        parameter.grad.mul_(by_hand)
                optimizer.step()
                optimizer.zero_grad()

    return body


def masked_mean(model: nn.Module, step: int) -> Tensor:
    x, labels = batch(step)
    mask = (torch.arange(32) < 24).float()
    return (F.cross_entropy(model(x), labels, reduction="none") * mask).sum() / mask.sum()


def squares(model: nn.Module, step: int) -> Tensor:
    x, _ = batch(step)
    return ((model(x) - x[:, :NUM_CLASSES]) ** 2).mean()


def epochs(
    num: int, batches: int, *, clear: bool, flush: bool, offset: int = 1, rescale: bool = False
) -> Loop:
    """Epochs of accumulation in windows of `num`; what happens to what is left over?"""

    def body(model: nn.Module, optimizer: Optimizer) -> None:
        for epoch in range(3):
            if clear:
                optimizer.zero_grad()
            for index in range(batches):
                size = min(num, batches - index // num * num) if rescale else num
                (classify(model, epoch * batches + index) / size).backward()
                if (index + offset) % num == 0 or (flush and index + 1 == batches):
                    optimizer.step()
                    optimizer.zero_grad()

    return body


def uneven(model: nn.Module, step: int, sizes: tuple[int, ...] = (4, 40, 9)) -> Tensor:
    x, labels = batch(step, sizes[step % len(sizes)])
    return F.cross_entropy(model(x), labels) / len(sizes)


def padded(model: nn.Module, step: int) -> Tensor:
    x, labels = batch(step, 64)
    length = 3 + step * 29 % 50
    return (
        F.cross_entropy(
            model(x), labels.masked_fill(torch.arange(64) >= length, -100), ignore_index=-100
        )
        / 4
    )


# SG401 to SG403


class InLists(nn.Module):
    """Layers where a module does not look."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(WIDTH, WIDTH)
        layers = {f"layer{number}": nn.Linear(WIDTH, WIDTH) for number in range(2)}
        self.hidden = layers if kind == "dict" else list(layers.values())
        self.last = nn.Linear(WIDTH, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        for layer in self.hidden.values() if isinstance(self.hidden, dict) else self.hidden:
            x = layer(x).relu()
        return self.last(x)


class Parts(nn.Module):
    """A body and a head; `between` is done to what goes from one to the other."""

    def __init__(self, between: Callable[[Tensor], Tensor] = lambda h: h) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()
        )
        self.head = nn.Linear(WIDTH, NUM_CLASSES)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.between(self.body(x)))


class WithSpare(Parts):
    """A layer that is made and never used."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(WIDTH, WIDTH)


def plain(model: nn.Module, optimizer: Optimizer, steps: int = 40) -> None:
    for step in range(steps):
        optimizer.zero_grad()
        classify(model, step).backward()
        optimizer.step()


def a_new_head(listen: Listen) -> None:
    """The head is replaced after the optimizer was made."""
    model = Parts()
    optimizer = adam(model)
    model.head = nn.Linear(WIDTH, NUM_CLASSES)
    with listen(model, optimizer):
        plain(model, optimizer)


def an_optimizer_of_a_copy(listen: Listen) -> None:
    """The model is made anew after the optimizer was made."""
    model = Parts()
    optimizer = adam(model)
    model = Parts()
    with listen(model, optimizer):
        plain(model, optimizer)


def through_numpy(h: Tensor) -> Tensor:
    return torch.tensor(h.detach().numpy())


def frozen(choose: Callable[[Parts], nn.Module]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        model = Parts()
        choose(model).requires_grad_(False)
        return model

    return make


def frozen_in_name() -> nn.Module:
    model = Parts()
    model.body.requires_grad = False  # type: ignore[assignment]
    return model


def clipped(limit: float, steps: int = 50) -> Loop:
    def body(model: nn.Module, optimizer: Optimizer) -> None:
        for step in range(steps):
            optimizer.zero_grad()
            classify(model, step).backward()
            nn.utils.clip_grad_norm_(model.parameters(), limit)
            optimizer.step()

    return body


def clipped_by_value(model: nn.Module, optimizer: Optimizer) -> None:
    for step in range(50):
        optimizer.zero_grad()
        classify(model, step).backward()
        nn.utils.clip_grad_value_(model.parameters(), 1e-5)
        optimizer.step()


def quarter(model: nn.Module, step: int) -> Tensor:
    return classify(model, step) / 4


FAULTY: dict[str, tuple[str, Program]] = {
    "the module clears between backward and step": ("SG302", loop(cleared_by_the_module)),
    "cleared to zeros between backward and step": ("SG302", loop(cleared_to_zero)),
    "cleared by hand between backward and step": ("SG302", loop(cleared_by_hand)),
    "zeroed by hand between backward and step": ("SG302", loop(zeroed_by_hand)),
    "a whole window is cleared": ("SG302", loop(cleared_at_the_end_of_a_window)),
    "cleared for each micro-batch": ("SG302", loop(cleared_for_each_micro_batch)),
    "one of two optimizers is cleared too late": ("SG302", wrong_of_two),
    "stepped twice": ("SG303", loop(stepped_twice)),
    "stepped for each batch of a window": ("SG303", loop(stepped_for_each_batch_of_a_window)),
    "never thawed": ("SG303", never_thawed),
    "never backward": ("SG303", loop(never_backward)),
    "an exception before backward": ("SG303", loop(an_exception_on_the_way)),
    "clipped after the step": ("SG304", loop(clipped_after_the_step)),
    "clipped before backward": ("SG304", loop(clipped_before_backward)),
    "clipped by value after the step": ("SG304", loop(clipped_by_value_after_the_step)),
    "clipped with an empty generator": ("SG304", clipped_with_an_empty_generator),
    "clipped while scaled": ("SG305", loop(scaled(unscale=False, own_step=False))),
    "clipped while scaled under Adam": (
        "SG305",
        loop(scaled(unscale=False, own_step=False), optimize=adam),
    ),
    "accumulated and clipped by value while scaled": ("SG305", loop(scaled_accumulation)),
    "a step of its own on scaled gradients": (
        "SG306",
        loop(scaled(unscale=False, own_step=True, clip=None)),
    ),
    "a step of its own on scaled gradients under Adam": (
        "SG306",
        loop(scaled(unscale=False, own_step=True, clip=None), optimize=adam),
    ),
    "a step of its own, clipped and scaled": ("SG306", loop(scaled(unscale=False, own_step=True))),
    "four means": ("SG307", loop(accumulated(4, classify))),
    "two means under Adam": ("SG307", loop(accumulated(2, classify), optimize=adam)),
    "eight masked means": (
        "SG307",
        loop(accumulated(8, masked_mean, 5), optimize=lambda m: sgd(m, 0.01)),
    ),
    "three means of squares": (
        "SG307",
        loop(accumulated(3, squares), optimize=lambda m: sgd(m, 0.01)),
    ),
    "what is left is thrown away": ("SG308", loop(epochs(4, 13, clear=True, flush=False))),
    "what is left leaks": ("SG308", loop(epochs(4, 14, clear=False, flush=False))),
    "what is left counts too little": ("SG308", loop(epochs(4, 15, clear=True, flush=True))),
    "counted from the wrong number": (
        "SG308",
        loop(epochs(4, 16, clear=True, flush=False, offset=0)),
    ),
    "micro-batches of different sizes": ("SG309", loop(accumulated(3, uneven))),
    "micro-batches with padding": ("SG309", loop(accumulated(4, padded), optimize=adam)),
    "micro-batches of two sizes": (
        "SG309",
        loop(accumulated(2, lambda m, t: uneven(m, t, (6, 50)))),
    ),
    "divided in the loss and in the gradient": (
        "SG310",
        loop(accumulated(4, quarter, by_hand=0.25)),
    ),
    "divided in the gradient of a mean": (
        "SG310",
        loop(accumulated(1, classify, 20, by_hand=1 / 32)),
    ),
    "divided twice in the loss": ("SG310", loop(accumulated(4, lambda m, t: quarter(m, t) / 4))),
    "layers in a list": ("SG401", loop(plain, lambda: InLists("list"), adam)),
    "layers in a dict": ("SG401", loop(plain, lambda: InLists("dict"))),
    "a head that was left out": ("SG401", loop(plain, Parts, lambda m: adam(m.body))),  # type: ignore[arg-type]
    "a body that was left out": ("SG401", loop(plain, Parts, lambda m: sgd(m.head))),  # type: ignore[arg-type]
    "a head that was replaced": ("SG401", a_new_head),
    "an optimizer of a copy": ("SG401", an_optimizer_of_a_copy),
    "a detach on the way": ("SG402", loop(plain, lambda: Parts(torch.detach), adam)),
    "a trip through NumPy": ("SG402", loop(plain, lambda: Parts(through_numpy))),
    "an operation without a derivative": (
        "SG402",
        loop(plain, lambda: Parts(lambda h: (h > 0).float())),
    ),
    "a layer that is never used": ("SG402", loop(plain, WithSpare, adam)),
    "a frozen head": ("SG403", loop(plain, frozen(lambda m: m.head))),
    "a frozen layer in the middle": ("SG403", loop(plain, frozen(lambda m: m.body[2]), adam)),
    "frozen in name only": ("SG403", loop(plain, frozen_in_name)),
    "a limit of a thousandth": ("SG501", loop(clipped(1e-3), optimize=lambda m: sgd(m, 0.1, 0))),
    "a limit of a thousandth with momentum": ("SG501", loop(clipped(1e-3))),
    "values clipped far below": ("SG501", loop(clipped_by_value)),
    "a limit of a ten-thousandth of a small rate": (
        "SG501",
        loop(clipped(1e-4), optimize=lambda m: sgd(m, 0.01)),
    ),
}
