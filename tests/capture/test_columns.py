"""Every tensor that is trained has a column of its own, however the script keeps it, and the
norms are those of all of them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from tests.capture.watched import watched

Keep = Callable[[int, torch.Tensor], None]
NUM_STEPS = 6
KINDS = ("dict", "list", "attribute", "set", "list of a module")


class Holder:
    """An object of the script's own."""

    def __init__(self) -> None:
        self.parts: list[torch.Tensor] = []


def kept_in(kind: str) -> tuple[Keep, Callable[[], Iterator[torch.Tensor]]]:
    """How a script keeps what it makes, and gives it back."""
    by_number: dict[int, torch.Tensor] = {}
    listed: list[torch.Tensor] = []
    unordered: set[torch.Tensor] = set()
    holder = Holder()
    module = nn.Module()
    module.listed = []  # type: ignore[assignment]
    ways: dict[str, tuple[Keep, Callable[[], Iterator[torch.Tensor]]]] = {
        "dict": (by_number.__setitem__, lambda: iter(by_number.values())),
        "list": (lambda _, p: listed.append(p), lambda: iter(listed)),
        "attribute": (lambda _, p: holder.parts.append(p), lambda: iter(holder.parts)),
        "set": (lambda _, p: unordered.add(p), lambda: iter(unordered)),
        "list of a module": (lambda _, p: module.listed.append(p), lambda: iter(module.listed)),  # type: ignore[union-attr]
    }
    return ways[kind]


@pytest.mark.parametrize("one_optimizer", [True, False], ids=["one optimizer", "one each"])
@pytest.mark.parametrize(
    ("num", "kind"),
    [
        *((4, kind) for kind in KINDS),
        *(
            pytest.param(70, kind, marks=() if kind == "dict" else pytest.mark.extended)
            for kind in KINDS
        ),
    ],
)
def test_what_is_made_one_after_the_other_in_one_variable(
    kind: str, num: int, one_optimizer: bool
) -> None:
    keep, kept = kept_in(kind)
    optimizers: list[torch.optim.Optimizer] = []
    norms: list[float] = []
    per_step = 1 if num < 10 else 14
    with watched() as heard:
        for first in range(0, num, per_step):
            for number in range(first, first + per_step):
                p = nn.Parameter(torch.full((3,), number + 1.0))
                keep(number, p)
                if one_optimizer and optimizers:
                    optimizers[0].add_param_group({"params": [p]})
                else:
                    optimizers.append(torch.optim.SGD([p], lr=0.0))
            for _ in range(NUM_STEPS):
                for optimizer in optimizers:
                    optimizer.zero_grad()
                sum((w * w).sum() for w in kept()).backward()
                norms.append(
                    math.sqrt(sum(float(w.grad.norm()) ** 2 for w in kept() if w.grad is not None))
                )
                for optimizer in optimizers:
                    optimizer.step()
        del p
    assert len(heard.rows[-1].parameters) == num
    assert len({each.name for each in heard.rows[-1].parameters}) == num
    assert [float(row.step["grad_norm"]) for row in heard.rows] == pytest.approx(norms)
    assert [float(row.step["applied_norm"]) for row in heard.rows] == pytest.approx(norms)


def replaces_its_head() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    for _ in range(3):
        model[1] = nn.Linear(4, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 10)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()
            schedule.step()


def test_a_module_that_is_replaced_goes_on_in_its_column() -> None:
    with watched() as heard:
        replaces_its_head()
    assert [each.name for each in heard.rows[-1].parameters] == [
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
    ]
    assert all((row.state >= 2).all() for row in heard.rows)


def learns_tasks(num: int) -> None:
    """Copies of a model learn tasks; the sum of their losses keeps their weights alone."""
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    meta = torch.optim.SGD(model.parameters(), lr=0.1)

    def adapted() -> nn.Module:
        learner = copy.deepcopy(model)
        inner = torch.optim.SGD(learner.parameters(), lr=0.1)
        for _ in range(2):
            inner.zero_grad()
            learner(torch.randn(8, 4)).square().mean().backward()
            inner.step()
        return learner

    for _ in range(num):
        meta.zero_grad()
        total = torch.zeros(())
        for _ in range(3):
            learner = adapted()
            total = total + learner(torch.randn(8, 4)).square().mean()
        total.backward()
        meta.step()


def test_copies_for_each_task_share_columns_while_a_graph_keeps_their_weights() -> None:
    numbers: list[int] = []
    for num in (4, 12):
        with watched() as heard:
            learns_tasks(num)
        numbers.append(len(heard.rows[-1].parameters))
    assert numbers[0] == numbers[1]


def test_a_former_tensor_that_is_trained_again_gets_a_column_of_its_own() -> None:
    torch.manual_seed(0)
    p = first = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([p], lr=0.0)
    with watched() as heard:

        def steps(*parts: torch.Tensor) -> None:
            for _ in range(2):
                optimizer.zero_grad()
                sum((w * w).sum() for w in parts).backward()
                optimizer.step()

        steps(first)
        second = p = nn.Parameter(torch.full((3,), 2.0))
        optimizer.param_groups[0]["params"] = [p]
        steps(second)
        optimizer.param_groups[0]["params"] = [first, second]
        steps(first, second)
    assert float(heard.rows[-1].step["grad_norm"]) == pytest.approx(2 * math.sqrt(3 * (1 + 4)))


class Layer(nn.Module):
    """A layer that trains itself, as in the forward-forward algorithm."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))
        self.optimizer = torch.optim.SGD(self.parameters(), lr=0.1)

    def train_once(self, x: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad()
        (x @ self.weight).square().mean().backward()
        self.optimizer.step()
        return (x @ self.weight).detach()


class Net(nn.Module):
    """Holds its layers in a plain list, as the example of PyTorch does."""

    def __init__(self, num: int = 2) -> None:
        super().__init__()
        self.layers = [Layer() for _ in range(num)]

    def fit(self) -> None:
        x = torch.randn(8, 4)
        for _ in range(3):
            for layer in self.layers:
                x = layer.train_once(x)


class Trainer:
    """Trains from within a method, with all it needs among its attributes."""

    def __init__(self, num: int) -> None:
        self.models = {f"m{i}": nn.Linear(3, 1) for i in range(num)}
        self.optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in self.models.values()]

    def fit(self) -> None:
        for _ in range(3):
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            sum(
                model(torch.randn(4, 3)).square().mean() for model in self.models.values()
            ).backward()  # type: ignore[union-attr]
            for optimizer in self.optimizers:
                optimizer.step()


# A function that asserts has its variables read by pytest, and is passed over by whoever looks for
# names.
def in_a_variable() -> None:
    net = Net()
    net.fit()


def in_no_variable() -> None:
    Net().fit()


def in_a_trainer() -> None:
    trainer = Trainer(2)
    trainer.fit()


def test_layers_that_train_themselves_are_named_by_the_variable_that_holds_them() -> None:
    with watched() as heard:
        in_a_variable()
    assert [each.name for each in heard.rows[-1].parameters] == [
        "net.layers[0].weight",
        "net.layers[1].weight",
    ]
    assert {each.name for each in heard.session.optimizers} == {
        "net.layers[0].optimizer",
        "net.layers[1].optimizer",
    }


def test_a_model_that_only_its_own_method_knows_has_the_name_of_its_class() -> None:
    with watched() as heard:
        in_no_variable()
    assert [each.name for each in heard.rows[-1].parameters] == [
        "Net.layers[0].weight",
        "Net.layers[1].weight",
    ]


def test_what_a_trainer_holds_is_named_by_its_attributes() -> None:
    with watched() as heard:
        in_a_trainer()
    names = [each.name for each in heard.rows[-1].parameters]
    assert names == ["models[m0].weight", "models[m0].bias", "models[m1].weight", "models[m1].bias"]


def test_an_object_may_have_a_list_of_the_name_that_modules_keep_theirs_under() -> None:
    class Net:
        """As skorch's."""

        def __init__(self) -> None:
            self._modules = ["module", "criterion"]
            self.module_ = nn.Linear(3, 2)

    net = Net()
    optimizer = torch.optim.SGD(net.module_.parameters(), lr=0.1)
    with watched() as heard:
        net.module_(torch.ones(3)).sum().backward()
        optimizer.step()
    assert [each.name for each in heard.rows[-1].parameters] == ["weight", "bias"]
