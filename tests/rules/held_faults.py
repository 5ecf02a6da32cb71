"""Training programs whose optimizer holds what no module has, or whose frozen weights are the wrong
ones, and healthy ones that look like them, in several styles.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.rules.programs import NUM_CLASSES, WIDTH, Listen, Program, adam, batch, sgd


class Net(nn.Module):
    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Linear(WIDTH, 32), nn.BatchNorm1d(32) if norm else nn.Identity(), nn.ReLU()
        )
        self.head = nn.Linear(32, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def fit(network: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 40) -> None:
    for step in range(steps):
        x, labels = batch(step)
        optimizer.zero_grad()
        F.cross_entropy(network(x), labels).backward()
        optimizer.step()


def changed_after(
    change: Callable[[Net], object], optimize: Callable[[nn.Module], torch.optim.Optimizer] = sgd
) -> Program:
    def program(listen: Listen) -> None:
        net = Net()
        optimizer = optimize(net)
        change(net)
        with listen():
            fit(net, optimizer)

    return program


def new_head(net: Net) -> None:
    net.head = nn.Linear(32, NUM_CLASSES)


def assigned(net: Net) -> object:
    return net.load_state_dict(copy.deepcopy(net.state_dict()), assign=True)


def moved(net: Net) -> None:
    """Moved to where it is: torch keeps the parameters."""
    net.to("cpu").to(torch.float32)


def layer_of_generator(listen: Listen) -> None:
    """One of two networks with an optimizer each gets a new layer; the other one steps first."""
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(WIDTH, 32), nn.ReLU(), nn.Linear(32, WIDTH))
    critic = nn.Sequential(nn.Linear(WIDTH, 32), nn.ReLU(), nn.Linear(32, 1))
    opt_c = torch.optim.Adam(critic.parameters(), lr=1e-3)
    opt_g = torch.optim.Adam(generator.parameters(), lr=1e-3)
    generator[2] = nn.Linear(32, WIDTH)
    bce = F.binary_cross_entropy_with_logits
    with listen():
        for step in range(40):
            x, _ = batch(step)
            fake = generator(torch.randn(len(x), WIDTH))
            critic.zero_grad()
            bce(critic(x), torch.ones(len(x), 1)).backward()
            bce(critic(fake.detach()), torch.zeros(len(x), 1)).backward()
            opt_c.step()
            generator.zero_grad()
            bce(critic(fake), torch.ones(len(x), 1)).backward()
            opt_g.step()


class Embedded(nn.Module):
    """Tied weights that are made anew when the vocabulary grows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.body = nn.Embedding(20, WIDTH), nn.Linear(WIDTH, WIDTH)

    def resize(self, num: int) -> None:
        old = self.embedding
        self.embedding = nn.Embedding(num, WIDTH)
        self.embedding.weight.data[: old.num_embeddings] = old.weight.data

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.tanh(self.body(self.embedding(x))), self.embedding.weight)


def resized(before: bool) -> Program:
    def program(listen: Listen) -> None:
        model = Embedded()
        if before:
            model.resize(24)
        optimizer = adam(model)
        if not before:
            model.resize(24)
        generator = torch.Generator().manual_seed(0)
        with listen():
            for _ in range(40):
                x = torch.randint(24, (8, 10), generator=generator)
                logits = model(x[:, :-1])
                loss = F.cross_entropy(logits.flatten(0, 1), x[:, 1:].flatten())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    return program


def held_copy(listen: Listen) -> None:
    """One of the tensors that the optimizer holds was copied afterwards."""
    torch.manual_seed(0)
    layer, scale = nn.Linear(WIDTH, NUM_CLASSES), nn.Parameter(torch.ones(1, WIDTH))
    optimizer = torch.optim.SGD([*layer.parameters(), scale], lr=0.1)
    scale = scale.detach().clone()
    with listen():
        for step in range(40):
            x, labels = batch(step)
            optimizer.zero_grad()
            F.cross_entropy(layer(x * scale), labels).backward()
            optimizer.step()


class Scaled(torch.autograd.Function):
    """Returns the gradient of the scale only where that of the input is wanted too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale)
        return x * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, scale = ctx.saved_tensors
        if not ctx.needs_input_grad[0]:
            return None, None
        return gradient * scale, (gradient * x).sum(0)


class Rounded(torch.autograd.Function):
    """Straight through for the input, and nothing for the width, which has another path."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, width: Tensor) -> Tensor:
        return torch.round(x / width) * width

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class WithScales(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Parameter(torch.ones(WIDTH))
        self.body, self.second = nn.Linear(WIDTH, 32), nn.Parameter(torch.ones(32))
        self.head = nn.Linear(32, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.body(Scaled.apply(x, self.first)))
        return self.head(Scaled.apply(h, self.second))


class WithRounding(Net):
    def __init__(self) -> None:
        super().__init__()
        self.width = nn.Parameter(torch.full((32,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x)
        return self.head(Rounded.apply(h, self.width) + self.width)


def fitted(make: Callable[[], nn.Module]) -> Program:
    def program(listen: Listen) -> None:
        network = make()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        with listen():
            fit(network, optimizer)

    return program


def fit_to_accuracy(every: int) -> Program:
    """The accuracy has no graph, and `requires_grad_` hides that: at each step, or at some."""

    def program(listen: Listen) -> None:
        net = Net()
        optimizer = adam(net)
        with listen():
            for step in range(40):
                x, labels = batch(step)
                logits = net(x)
                loss = F.cross_entropy(logits, labels)
                if step % every == 0:
                    loss = (logits.argmax(1) != labels).float().mean().requires_grad_(True)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    return program


def replaced_later(add: bool, num_before: int = 12) -> Program:
    """A new head in the middle of the training, which the optimizer is given or not."""

    def program(listen: Listen) -> None:
        net = Net()
        optimizer = adam(net)
        with listen():
            fit(net, optimizer, num_before)
            net.head = nn.Linear(32, NUM_CLASSES)
            if add:
                optimizer.add_param_group({"params": net.head.parameters()})
            fit(net, optimizer, 50)

    return program


def copied(is_cut: bool, with_another: bool = False) -> Program:
    """Steps within the step: on a copy of the model, or on weights computed from its own; with
    another model that another optimizer holds.
    """

    def program(listen: Listen) -> None:
        net = Net()
        optimizer = adam(net)
        others = [adam(Net())] if with_another else []
        names = [name for name, _ in net.named_parameters()]
        with listen():
            for step in range(24):
                x, labels = batch(step)
                inner = copy.deepcopy(net) if is_cut else net
                held = list(inner.parameters())
                loss = F.cross_entropy(inner(x), labels)
                gradients = torch.autograd.grad(loss, held, create_graph=not is_cut)
                optimizer.zero_grad()
                if is_cut:
                    for parameter, gradient in zip(held, gradients, strict=True):
                        parameter.data -= 0.1 * gradient
                    F.cross_entropy(inner(x), labels).backward()
                else:
                    moved = [p - 0.1 * g for p, g in zip(held, gradients, strict=True)]
                    weights = dict(zip(names, moved, strict=True))
                    output = torch.func.functional_call(net, weights, (x,))
                    F.cross_entropy(output, labels).backward()
                optimizer.step()
        del others

    return program


class Multiplied(nn.Module):
    """What is computed from a parameter is no parameter, unless it is computed inside."""

    def __init__(self, is_inside: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        drawn = torch.randn(NUM_CLASSES, WIDTH)
        self.filters = nn.Parameter(drawn * 0.1) if is_inside else nn.Parameter(drawn) * 0.1
        self.bias = nn.Parameter(torch.zeros(NUM_CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.filters, self.bias)


def fitted_again(is_inside: bool) -> Program:
    def program(listen: Listen) -> None:
        network = Multiplied(is_inside)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        with listen():
            for step in range(40):
                x, labels = batch(step)
                optimizer.zero_grad()
                F.cross_entropy(network(x), labels).backward(retain_graph=True)
                optimizer.step()

    return program


def frozen(
    choose: Callable[[str, nn.Module], bool], pretrained: bool, norm: bool = True
) -> Program:
    """`choose` says of the parameters of which modules they train."""

    def program(listen: Listen) -> None:
        net = Net(norm=True)
        if pretrained:
            fit(net, torch.optim.Adam(net.parameters(), 1e-2), 150)
            torch.manual_seed(5)
            net.head = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, NUM_CLASSES))
        for name, module in net.named_modules():
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(choose(name, module))
        optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], 1e-3)
        with listen():
            fit(net, optimizer)

    return program


def is_norm(_: str, module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm1d)


def is_body(name: str, _: nn.Module) -> bool:
    return name.startswith("body")


class LowRank(nn.Module):
    """A layer with an adapter beside it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base, width = base, base.in_features
        self.lora_down = nn.Linear(width, 4, bias=False)
        self.lora_up = nn.Linear(4, base.out_features, bias=False)
        nn.init.zeros_(self.lora_up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.lora_up(self.lora_down(x))


class LoadedLayer(LowRank):
    """As peft makes them, with names that say nothing."""

    adapter_layer_names = ("down", "up")

    def __init__(self, base: nn.Linear) -> None:
        super().__init__(base)
        self.down, self.up = nn.ModuleDict({"x": self.lora_down}), self.lora_up
        del self.lora_down, self.lora_up

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down["x"](x))


class Loaded(nn.Module):
    """As peft has it after an adapter is loaded, for inference or not."""

    def __init__(self, model: nn.Module, inference_mode: bool) -> None:
        super().__init__()
        self.model = model
        self.peft_config = {"default": SimpleNamespace(inference_mode=inference_mode)}

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


LoadedLayer.__module__ = Loaded.__module__ = "peft.tuners.lora"


def adapted(
    trains: Callable[[str], bool],
    layer: type[LowRank] = LowRank,
    later: int = 0,
    wrap: Callable[[nn.Module], nn.Module] = lambda model: model,
) -> Program:
    """A new head on a body with adapters: what trains, as its name says; `later`, all adapters."""

    def program(listen: Listen) -> None:
        torch.manual_seed(0)
        body = nn.Sequential(layer(nn.Linear(WIDTH, 64)), nn.Tanh(), layer(nn.Linear(64, 32)))
        model = nn.Sequential(wrap(body), nn.Tanh(), nn.Linear(32, NUM_CLASSES))
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(trains(name))
        optimizer = adam(model)
        with listen():
            fit(model, optimizer)
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(trains(name) or (later > 0 and "lora" in name))
            fit(model, optimizer, later)

    return program


def is_head(name: str) -> bool:
    return name.startswith("2.")


def loaded(inference_mode: bool) -> Callable[[nn.Module], nn.Module]:
    return lambda model: Loaded(model, inference_mode)


FAULTY: dict[str, tuple[str, str, Program]] = {
    "new head": ("SG401", "the module was replaced", changed_after(new_head)),
    "layer of the second": ("SG401", "the module was replaced", layer_of_generator),
    "state assigned": ("SG401", "before the model was replaced", changed_after(assigned, adam)),
    "embedding resized": ("SG401", "the module was replaced", resized(before=False)),
    "held copy": ("SG402", "no module has", held_copy),
    "replaced later": ("SG401", "last gradient at step 11", replaced_later(add=False)),
    "copied": ("SG401", "new copies of the parameters", copied(is_cut=True)),
    "copied beside others": (
        "SG401",
        "new copies of the parameters",
        copied(is_cut=True, with_another=True),
    ),
    "multiplied": ("SG401", "a leaf of shape 4 × 16 (filters)", fitted_again(is_inside=False)),
    "withheld": ("SG402", "Scaled.backward returns None", fitted(WithScales)),
    "loss without a graph": ("SG402", "has no graph, and requires", fit_to_accuracy(1)),
    "only norms": ("SG403", "only normalization layers", frozen(is_norm, pretrained=False)),
    "adapters frozen": ("SG403", "and never got a gradient", adapted(is_head)),
    "adapters for inference": (
        "SG403",
        "peft loads an adapter for inference",
        adapted(is_head, LoadedLayer, wrap=loaded(inference_mode=True)),
    ),
    "new head frozen": ("SG403", "frozen as it was initialized", frozen(is_body, pretrained=True)),
}
HEALTHY: dict[str, Program] = {
    "replaced and given": replaced_later(add=True),
    "steps within the step": copied(is_cut=False),
    "multiplied inside": fitted_again(is_inside=True),
    "withheld on one of two ways": fitted(WithRounding),
    "at times without a graph": fit_to_accuracy(7),
    "moved": changed_after(moved),
    "resized before": resized(before=True),
    "adapters train": adapted(
        lambda name: is_head(name) or "up" in name or "down" in name,
        LoadedLayer,
        wrap=loaded(inference_mode=False),
    ),
    "one adapter frozen": adapted(lambda name: is_head(name) or name.startswith("0.2.lora")),
    "adapters unfrozen later": adapted(is_head, later=20),
    "body frozen": frozen(lambda *each: not is_body(*each), pretrained=True),
    "random features": frozen(lambda *each: not is_body(*each) or is_norm(*each), pretrained=False),
    "norms and head": frozen(lambda *each: not is_body(*each) or is_norm(*each), pretrained=True),
}
