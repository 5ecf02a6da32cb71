"""Training programs with a second network that no optimizer holds and that gets gradients: copies
of what is trained, which is harmless, and layers that were forgotten, which is not.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.rules.programs import NUM_CLASSES, WIDTH, Listen, Program, batch

Sync = Callable[[nn.Module, nn.Module], object]


def network(outputs: int = NUM_CLASSES) -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, 32), nn.Tanh(), nn.Linear(32, outputs))


def load(into: nn.Module, live: nn.Module) -> None:
    into.load_state_dict(live.state_dict())


def write(into: nn.Module, live: nn.Module) -> None:
    for old, new in zip(into.parameters(), live.parameters(), strict=True):
        old.data.copy_(new.data)


@torch.no_grad()
def average(into: nn.Module, live: nn.Module) -> None:
    for old, new in zip(into.parameters(), live.parameters(), strict=True):
        old.lerp_(new, 0.1)


def ppo(sync: Sync | None, every: int, no_grad: bool = False) -> Program:
    """The old policy's probabilities are computed anew for each minibatch."""

    def program(listen: Listen) -> None:
        torch.manual_seed(0)
        policy, policy_old = network(), network()
        policy_old.load_state_dict(policy.state_dict())
        optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
        with listen():
            for step in range(60):
                states, best = batch(step, 64)
                with torch.no_grad():
                    actions = torch.distributions.Categorical(logits=policy_old(states)).sample()
                gain = (actions == best).float() - 0.25
                with torch.set_grad_enabled(not no_grad):
                    former = F.log_softmax(policy_old(states), 1).gather(1, actions[:, None])
                now = F.log_softmax(policy(states), 1).gather(1, actions[:, None])
                ratio = (now - former).exp().squeeze(1)
                loss = -torch.min(ratio * gain, ratio.clamp(0.8, 1.2) * gain).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if sync is not None and step % every == every - 1:
                    sync(policy_old, policy)

    return program


class Agent:
    """A value network and its target, which begins as a copy or, by mistake, as something else."""

    def __init__(self, is_copy: bool) -> None:
        self.online = network()
        self.target = copy.deepcopy(self.online) if is_copy else network()
        self.optimizer = torch.optim.Adam(self.online.parameters(), 3e-3)

    def learn(self, states: Tensor, actions: Tensor, rewards: Tensor, after: Tensor) -> None:
        value = self.online(states).gather(1, actions[:, None]).squeeze(1)
        target = rewards + 0.5 * self.target(after).max(1).values
        self.optimizer.zero_grad()
        F.smooth_l1_loss(value, target).backward()
        self.optimizer.step()


def dqn(sync: Sync, every: int, is_copy: bool = True) -> Program:
    def program(listen: Listen) -> None:
        torch.manual_seed(0)
        agent = Agent(is_copy)
        with listen():
            for step in range(100):
                states, best = batch(step)
                actions = torch.randint(NUM_CLASSES, (len(states),))
                agent.learn(states, actions, (actions == best).float(), batch(step + 1)[0])
                if step % every == every - 1:
                    sync(agent.target, agent.online)

    return program


class WithTeacher(nn.Module):
    """Student and teacher in one module, as in self-distillation."""

    def __init__(self, aux: bool) -> None:
        super().__init__()
        self.student = network()
        self.teacher = copy.deepcopy(self.student)
        self.aux = nn.Linear(NUM_CLASSES, 8) if aux else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return (self.student(x) - self.teacher(x + 0.1)).square().mean()


def distilled(sync: Sync | None, every: int, aux: bool = False) -> Program:
    """With a loss of its own for another layer, which nobody gave to the optimizer, or without."""

    def program(listen: Listen) -> None:
        torch.manual_seed(0)
        model = WithTeacher(aux)
        optimizer = torch.optim.SGD(model.student.parameters(), lr=0.1, momentum=0.9)
        with listen(model, optimizer):
            for step in range(60):
                x, labels = batch(step)
                optimizer.zero_grad()
                loss = F.cross_entropy(model.student(x), labels) + 0.5 * model(x)
                if aux:
                    loss = loss + F.cross_entropy(model.aux(model.student(x)), labels)
                loss.backward()
                optimizer.step()
                if sync is not None and step % every == every - 1:
                    sync(model.teacher, model.student)

    return program


class Parts(nn.Module):
    """Two branches that begin with the same weights, and an autoencoder beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.left = network(WIDTH)
        self.right = copy.deepcopy(self.left)
        self.decoder = network(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.left(x) + self.right(-x))


def followed(sync: Sync) -> Program:
    """BYOL: the optimizer holds the target network, too, which gets no gradient."""

    def program(listen: Listen) -> None:
        torch.manual_seed(0)
        model = nn.ModuleDict({"online": network(8), "predictor": nn.Linear(8, 8)})
        model["target"] = copy.deepcopy(model["online"])
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        with listen():
            for step in range(60):
                x, _ = batch(step, 64)
                predicted = model["predictor"](model["online"](x + 0.1 * torch.randn_like(x)))
                loss = 1 - F.cosine_similarity(predicted, model["target"](x).detach()).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                sync(model["target"], model["online"])

    return program


def forgotten(chosen: Callable[[Parts], Iterable[nn.Module]]) -> Program:
    def program(listen: Listen) -> None:
        torch.manual_seed(0)
        model = Parts()
        held = [p for part in chosen(model) for p in part.parameters()]
        optimizer = torch.optim.Adam(held, 3e-3)
        with listen():
            for step in range(40):
                x, _ = batch(step)
                optimizer.zero_grad()
                F.mse_loss(model(x), x).backward()
                optimizer.step()

    return program


class Growing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(WIDTH, 32), nn.ReLU())
        self.heads = nn.ModuleList([nn.Linear(32, NUM_CLASSES)])

    def forward(self, x: Tensor) -> list[Tensor]:
        hidden = self.body(x)
        return [head(hidden) for head in self.heads]


def head_added(given: bool) -> Program:
    """A second task begins in the middle of the training, with a head of its own."""

    def program(listen: Listen) -> None:
        torch.manual_seed(0)
        model = Growing()
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        with listen():
            for step in range(80):
                if step == 25:
                    model.heads.append(nn.Linear(32, NUM_CLASSES))
                    if given:
                        optimizer.add_param_group({"params": model.heads[1].parameters()})
                x, labels = batch(step)
                optimizer.zero_grad()
                torch.stack([F.cross_entropy(each, labels) for each in model(x)]).sum().backward()
                optimizer.step()

    return program


# what is said of them as an info
HARMLESS: dict[str, tuple[str, Program]] = {
    "old policy": ("again and again", ppo(load, 20)),
    "target written": ("again and again", dqn(write, 40)),
    "target averaged": ("again and again", dqn(average, 24)),
    "target that began as another": ("again and again", dqn(load, 30, is_copy=False)),
    "teacher in the model": ("again and again", distilled(average, 16)),
    "teacher at each step": ("again and again", distilled(average, 1)),
    "reference": ("as a reference model does", ppo(None, 0)),
}
# what is said of them as an error, and the first parameter
STRAYS: dict[str, tuple[str, Program]] = {
    "decoder": ("decoder.0.weight", forgotten(lambda model: (model.left, model.right))),
    "branch": ("right.0.weight", forgotten(lambda model: (model.left, model.decoder))),
    "teacher never set": ("teacher.0.weight", distilled(None, 0)),
    "layer beside a copy": ("aux.weight", distilled(average, 16, aux=True)),
    "head added": ("heads.1.weight", head_added(given=False)),
}
HEALTHY: dict[str, Program] = {
    "old policy without gradients": ppo(load, 20, no_grad=True),
    "target that the optimizer holds": followed(average),
    "all given": forgotten(lambda model: (model,)),
    "head added and given": head_added(given=True),
}
