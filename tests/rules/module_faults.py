"""Training programs whose modules are in the wrong mode or all alike, and healthy ones that look
like them, in several styles.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.rules.programs import NUM_CLASSES, WIDTH, Listen, Program, adam, batch, mlp, sgd

EPOCHS, BATCHES = 4, 16
Hook = Callable[[nn.Module, int], object]


class Dropped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(WIDTH, 32), nn.Linear(32, NUM_CLASSES)

        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(torch.relu(self.first(x))))


def normed() -> nn.Module:
    return mlp(3, nn.ReLU, nn.BatchNorm1d)


def with_validation(
    make: Callable[[], nn.Module], before: Hook, after: Hook, once: Hook = lambda *_: None
) -> Program:
    """Epochs, each with a validation; what is called before and after an epoch, and once."""

    def program(listen: Listen) -> None:
        model = make()
        optimizer = adam(model)
        once(model, -1)
        with listen(model, optimizer):
            for epoch in range(EPOCHS):
                before(model, epoch)
                for step in range(BATCHES):
                    x, labels = batch(BATCHES * epoch + step)
                    optimizer.zero_grad()
                    F.cross_entropy(model(x), labels).backward()
                    optimizer.step()
                after(model, epoch)
                with torch.no_grad():
                    model(batch(999)[0])

    return program


def nothing(*_: object) -> None:
    pass


def train(model: nn.Module, _: int) -> object:
    return model.train()


def evaluate(model: nn.Module, _: int) -> object:
    return model.eval()


def attacked(listen: Listen) -> None:
    """Each batch is changed by gradients in eval mode first."""
    model = normed()
    optimizer = adam(model)
    with listen(model, optimizer):
        for step in range(60):
            x, labels = batch(step)
            x.requires_grad_()
            model.eval()
            (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), labels), x)
            model.train()
            optimizer.zero_grad()
            F.cross_entropy(model((x + 0.05 * gradient.sign()).detach()), labels).backward()
            optimizer.step()


def raw(used: bool = False) -> nn.Module:
    """What the first normalization is given is in the thousands; it may have seen that."""
    model = normed()
    with torch.no_grad():
        model[0].weight.mul_(5000)
        if used:
            model(batch(0)[0])
    return model


def half_frozen(model: nn.Module, epoch: int) -> None:
    """The statistics of batch normalisation are kept in the last epochs, as is usual in
    detection.
    """
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d) and epoch > 1:
            module.eval()


def constant(
    change: Callable[[nn.Module], object], depth: int = 3, optimize: Callable[..., object] = sgd
) -> Program:
    """The plain loop after an initialisation of one's own."""

    def program(listen: Listen) -> None:
        model = mlp(depth, nn.Tanh)
        with torch.no_grad():
            change(model)
        optimizer = optimize(model)
        with listen(model, optimizer):
            for step in range(40):
                optimizer.zero_grad()  # type: ignore[attr-defined]
                F.cross_entropy(model(batch(step)[0]), batch(step)[1]).backward()
                optimizer.step()  # type: ignore[attr-defined]

    return program


def all_constant(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        parameter.fill_(0.1 if name.endswith("weight") else 0.0)


def one_constant(model: nn.Module) -> None:
    """The middle layer, and the one that reads it."""
    nn.init.constant_(model[2].weight, 0.05)  # type: ignore[index]
    nn.init.zeros_(model[2].bias)  # type: ignore[index]
    nn.init.ones_(model[4].weight)  # type: ignore[index]


def last_of_zeros(model: nn.Module) -> None:
    nn.init.zeros_(model[4].weight)  # type: ignore[index]
    nn.init.zeros_(model[4].bias)  # type: ignore[index]


def constant_behind_random(model: nn.Module) -> None:
    """Only the first layer: what reads it differs, and so do its gradients."""
    nn.init.constant_(model[0].weight, 0.1)  # type: ignore[index]


class MadeInForward(nn.Module):
    """A head whose size was not known in time."""

    def __init__(self, as_parameter: bool) -> None:
        super().__init__()
        self.body, self.last = mlp(2, nn.Tanh, outputs=WIDTH), nn.Linear(WIDTH, NUM_CLASSES)
        self.as_parameter = as_parameter

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.body(x))
        if self.as_parameter:
            hidden = hidden * nn.Parameter(torch.randn(WIDTH))
        else:
            hidden = nn.Linear(WIDTH, WIDTH)(hidden)
        return self.last(hidden)


class MadeOnce(nn.Module):
    """Makes its last layer at the first call."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = mlp(2, nn.Tanh, outputs=WIDTH), nn.LazyLinear(NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.body(x)))


def copied_model(listen: Listen) -> None:
    """A copy for each task, with an optimizer of its own, and a penalty on the first weights."""
    import copy

    model = mlp(3, nn.Tanh)
    with listen():
        for task in range(4):
            own = copy.deepcopy(model)
            optimizer = adam(own)
            for step in range(12):
                optimizer.zero_grad()
                far = sum(
                    (a - b.detach()).pow(2).sum()
                    for a, b in zip(own.parameters(), model.parameters(), strict=True)
                )
                x, labels = batch(12 * task + step)
                (F.cross_entropy(own(x), labels) + 1e-3 * far).backward()
                optimizer.step()


def plain(make: Callable[[], nn.Module]) -> Program:
    return with_validation(make, nothing, nothing)


def made_once() -> nn.Module:
    model = MadeOnce()
    model(batch(0)[0])
    return model


REMADE: dict[str, Program] = {
    "layer": plain(lambda: MadeInForward(as_parameter=False)),
    "parameter": plain(lambda: MadeInForward(as_parameter=True)),
}
IN_EVAL: dict[str, Program] = {
    "normed": with_validation(normed, nothing, evaluate),
    "dropped": with_validation(Dropped, nothing, evaluate, once=train),
    "from the second epoch on": with_validation(
        normed, nothing, lambda m, epoch: m.train(epoch < 1)
    ),
    "from the beginning, with averages of nothing": with_validation(
        raw, nothing, nothing, once=evaluate
    ),
}
SYMMETRIC: dict[str, Program] = {
    "all constant": constant(all_constant),
    "one constant": constant(one_constant, optimize=adam),
}
HEALTHY: dict[str, Program] = {
    "back at each epoch": with_validation(normed, train, evaluate),
    "put back": with_validation(Dropped, nothing, nothing),
    "frozen from the start": with_validation(normed, nothing, nothing, once=evaluate),
    "frozen from the start, with averages": with_validation(
        lambda: raw(used=True), nothing, nothing, once=evaluate
    ),
    "without such layers": with_validation(lambda: mlp(3, nn.ReLU), nothing, evaluate),
    "half frozen": with_validation(normed, half_frozen, evaluate),
    "attacked": attacked,
    "made once": plain(made_once),
    "copied model": copied_model,
    "last of zeros": constant(last_of_zeros),
    "constant behind random": constant(constant_behind_random),
}
