"""Small trainings whose records are stored, to be read and judged by every later version.

    python programs.py OUT NAME     # records the program NAME into the directory OUT

A record names lines of this file, so a change here asks for all runs to be made again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import seismograd


def batch(step: int, size: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    labels = torch.randint(3, (size,), generator=generator)
    noise = torch.randn(size, 6, generator=generator)
    return F.one_hot(labels, 6).float() * 2 + 0.3 * noise, labels


def classify(model: nn.Module, step: int) -> Tensor:
    x, labels = batch(step)
    return F.cross_entropy(model(x).float(), labels)


def mlp(depth: int = 2, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(0)
    hidden = [each for _ in range(depth - 1) for each in (nn.Linear(6, 6), activation())]
    return nn.Sequential(*hidden, nn.Linear(6, 3))


def healthy(out: str) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with seismograd.watch(model, optimizer, out=out, elements=["0.weight[0,0]"]) as session:
        for step in range(40):
            session.epoch(step // 20)
            optimizer.zero_grad()
            classify(model, step).backward()
            optimizer.step()


def vanishing(out: str) -> None:
    model = mlp(10, nn.Sigmoid)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with seismograd.watch(model, optimizer, out=out):
        for step in range(40):
            optimizer.zero_grad()
            classify(model, step).backward()
            optimizer.step()


def nan_loss(out: str) -> None:
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    with seismograd.watch(model, optimizer, out=out):
        for step in range(12):
            optimizer.zero_grad()
            loss = classify(model, step)
            if step == 8:
                loss = loss + torch.log(-loss.detach())
            loss.backward()
            optimizer.step()


def gan(out: str) -> None:
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 6))
    critic = nn.Sequential(nn.Linear(6, 6), nn.LeakyReLU(), nn.Linear(6, 1))
    opt_generator = torch.optim.Adam(generator.parameters(), lr=1e-3)
    opt_critic = torch.optim.Adam(critic.parameters(), lr=1e-3)
    one, zero = torch.ones(16, 1), torch.zeros(16, 1)
    judge = F.binary_cross_entropy_with_logits
    with seismograd.watch(generator, critic, opt_generator, opt_critic, out=out):
        for step in range(15):
            real, _ = batch(step)
            noise = torch.randn(16, 2, generator=torch.Generator().manual_seed(step))
            opt_critic.zero_grad()
            fake = generator(noise)
            (judge(critic(real), one) + judge(critic(fake.detach()), zero)).backward()
            opt_critic.step()
            opt_generator.zero_grad()
            judge(critic(fake), one).backward()
            opt_generator.step()


def accumulation(out: str) -> None:
    """Of ten micro-batches four make a step, and nothing divides by four; two are left over."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with seismograd.watch(model, optimizer, out=out):
        for epoch in range(6):
            for number in range(10):
                classify(model, 10 * epoch + number).backward()
                if number % 4 == 3:
                    optimizer.step()
                    optimizer.zero_grad()


def loss_scale(out: str) -> None:
    """Clipped before the scale is divided out; one step of infinities is skipped."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=8)
    with seismograd.watch(model, optimizer, out=out):
        for step in range(24):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = classify(model, step) * (float("inf") if step == 5 else 1.0)
            scaler.scale(loss).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()


def bfloat16(out: str) -> None:
    model = mlp(3).bfloat16()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    with seismograd.watch(model, optimizer, out=out):
        for step in range(60):
            optimizer.zero_grad()
            x, labels = batch(step)
            F.cross_entropy(model(x.bfloat16()).float(), labels).backward()
            optimizer.step()


def by_hand(out: str) -> None:
    model = mlp()
    with seismograd.watch(out=out):
        for step in range(20):
            model.zero_grad()
            classify(model, step).backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 0.1 * parameter.grad


def segments(out: str) -> None:
    """A layer that is frozen at first, and one that no optimizer has."""
    model = mlp(3)
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
    with seismograd.watch(model, optimizer, out=out):
        for step in range(30):
            if step == 10:
                model[0].requires_grad_(True)
                optimizer.add_param_group({"params": list(model[0].parameters()), "lr": 0.01})
            optimizer.zero_grad()
            model.zero_grad()
            classify(model, step).backward()
            optimizer.step()


def two_tasks(out: str) -> None:
    """Two losses that pull against each other; the second is by far the larger."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    with seismograd.watch(model, optimizer, out=out):
        for step in range(60):
            optimizer.zero_grad()
            logits = model(batch(step)[0])
            keep = logits[:, 0].mean()
            drop = -100.0 * logits[:, 0].mean() + logits[:, 1].square().mean()
            keep.backward(retain_graph=True)
            drop.backward()
            optimizer.step()


def never_cleared(out: str) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with seismograd.watch(model, optimizer, out=out):
        for step in range(30):
            classify(model, step).backward()
            optimizer.step()


def clipped(out: str) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with seismograd.watch(model, optimizer, out=out):
        for step in range(120):
            optimizer.zero_grad()
            classify(model, step).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
            optimizer.step()


def processes(out: str) -> None:
    """Two processes train together; the second has a NaN of its own. Wants RANK and WORLD_SIZE."""
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    model = nn.parallel.DistributedDataParallel(mlp())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with seismograd.watch(model, optimizer, out=out):
        for step in range(12):
            optimizer.zero_grad()
            loss = classify(model, 2 * step + rank)
            (loss * float("nan") if step == 7 and rank == 1 else loss).backward()
            optimizer.step()
    torch.distributed.destroy_process_group()


def exact(out: str) -> None:
    """All numbers are small integers and powers of two, so that every machine gets the same bits.

    The loss is linear in each weight, so gradients stay what they are; one step accumulates, one
    is clipped without effect, one has a NaN that is taken out again, one is not cleared.
    """
    model = nn.Linear(4, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0, 3.0, 0.0], [4.0, 0.0, -1.0, 2.0]]))
        model.bias.copy_(torch.tensor([1.0, -1.0]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.125)
    with seismograd.watch(model, optimizer, out=out, elements=["weight[1,2]"]):
        for step in range(24):
            if step != 17:
                optimizer.zero_grad()
            for part in range(2 if step == 6 else 1):
                x = torch.arange(16, dtype=torch.float32).reshape(4, 4) - 4.0 * (step % 4) + part
                (model(x) * torch.tensor([2.0, -1.0])).mean().backward()
            if step == 9:
                nn.utils.clip_grad_norm_(model.parameters(), 1e6)
            if step == 13:
                model.bias.grad[0] = float("nan")
            optimizer.step()
            if step == 13:
                with torch.no_grad():
                    model.bias.copy_(torch.tensor([1.0, -1.0]))


PROGRAMS: dict[str, Callable[[str], None]] = {
    each.__name__: each
    for each in (
        healthy,
        vanishing,
        nan_loss,
        gan,
        accumulation,
        loss_scale,
        bfloat16,
        by_hand,
        segments,
        two_tasks,
        never_cleared,
        clipped,
        processes,
        exact,
    )
}
NUM_PROCESSES = {"processes": 2}


if __name__ == "__main__":
    os.environ["LANGUAGE"] = "en"
    torch.set_num_threads(1)
    PROGRAMS[sys.argv[2]](sys.argv[1])
