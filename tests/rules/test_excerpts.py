"""What a finding says to insert can be copied: it uses the names of the script."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from seismograd.analysis.script_names import BY_VALUE, clip_of  # noqa: E402
from tests.rules.programs import Listen, batch, mlp  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402
from tests.synthetic import block, make_parameters  # noqa: E402

CLIP = "torch.nn.utils.clip_grad_norm_"
OWN = "nn.utils.clip_grad_norm_"  # as the scripts below write it


def loss_of(net: nn.Module, step: int) -> Tensor:
    x, labels = batch(step)
    return F.cross_entropy(net(x), labels)


def clipped_after_the_step(listen: Listen) -> None:
    net = mlp(3, nn.Tanh)
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    with listen():
        for step in range(20):
            opt.zero_grad()
            loss_of(net, step).backward()
            opt.step()
            nn.utils.clip_grad_norm_(net.parameters(), 0.1)


def clipped_before_unscale(listen: Listen) -> None:
    net = mlp(3, nn.Tanh)
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with listen():
        for step in range(20):
            opt.zero_grad()
            scaler.scale(loss_of(net, step)).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            scaler.step(opt)
            scaler.update()


def clipped_at_every_step(listen: Listen) -> None:
    net = mlp(3, nn.Tanh)
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    with listen():
        for step in range(40):
            opt.zero_grad()
            loss_of(net, step).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1e-4)
            opt.step()


def clipped_with_two_models(listen: Listen) -> None:
    body, head = mlp(2, nn.Tanh, outputs=16), nn.Linear(16, 4)
    opt = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)
    with listen():
        for step in range(20):
            opt.zero_grad()
            loss_of(nn.Sequential(body, nn.Tanh(), head), step).backward()
            opt.step()
            nn.utils.clip_grad_norm_([*body.parameters(), *head.parameters()], 0.1)


class Scaled:
    """What a class that trains keeps, and a scaler."""

    def __init__(self) -> None:
        self.net = mlp(3, nn.Tanh)
        self.opt = torch.optim.SGD(self.net.parameters(), lr=0.01)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=256.0)

    def never_cleared(self, listen: Listen) -> None:
        with listen():
            for step in range(20):
                self.scaler.scale(loss_of(self.net, step)).backward()
                self.scaler.step(self.opt)
                self.scaler.update()

    def cleared_between(self, listen: Listen) -> None:
        with listen():
            for step in range(20):
                total = loss_of(self.net, step)
                (total * 2).backward()
                self.opt.zero_grad()
                self.opt.step()


SCALED = "self.scaler.scale(loss_of(self.net, step)).backward()"


@pytest.mark.parametrize(
    ("program", "code", "excerpt"),
    [
        (Scaled.never_cleared, "SG301", f"self.opt.zero_grad()\n{SCALED}"),
        (
            Scaled.cleared_between,
            "SG302",
            "self.opt.zero_grad()\n(total * 2).backward()",
        ),
    ],
)
def test_calls_are_written_as_the_script_writes_them(
    program: Callable[[Scaled, Listen], None], code: str, excerpt: str, tmp_path: Path
) -> None:
    # made here: what a module holds, every test that looks for all models would find
    training = Scaled()
    findings = judged(partial(program, training), tmp_path / "run")
    assert (findings[0].code, findings[0].excerpt) == (code, excerpt)


def too_slow(listen: Listen) -> None:
    net = mlp(3, nn.Tanh)
    opt = torch.optim.Adam(net.parameters(), lr=1e-8)
    with listen(net, opt):
        for step in range(40):
            opt.zero_grad()
            loss_of(net, step).backward()
            opt.step()


def too_fast(listen: Listen) -> None:
    net, rate = mlp(3, nn.Tanh), 3.0
    opt = torch.optim.AdamW(net.parameters(), rate)
    with listen(net, opt):
        for step in range(40):
            opt.zero_grad()
            loss_of(net, step).backward()
            opt.step()


def too_fast_by_schedule(listen: Listen) -> None:
    net, highest = mlp(3, nn.Tanh), 90.0
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=highest, total_steps=60)
    with listen(net, opt):
        for step in range(60):
            opt.zero_grad()
            loss_of(net, step).backward()
            opt.step()
            schedule.step()


def too_fast_by_hand(listen: Listen) -> None:
    net, rate = mlp(3, nn.Tanh), 3.0
    opt = torch.optim.Adam(net.parameters())
    with listen(net, opt):
        for step in range(40):
            for group in opt.param_groups:
                group["lr"] = rate / (1 + step / 100)
            opt.zero_grad()
            loss_of(net, step).backward()
            opt.step()


@pytest.mark.parametrize(
    ("program", "code", "text"),
    [
        (too_slow, "SG108", r"opt = torch\.optim\.Adam\(net\.parameters\(\), lr=0\.000\d+\)"),
        (too_fast, "SG107", r"opt = torch\.optim\.AdamW\(net\.parameters\(\), 0\.00\d+\)"),
        (
            too_fast_by_schedule,
            "SG107",
            r"schedule = .*OneCycleLR\(opt, total_steps=60, max_lr=0\.\d+ \* highest\)",
        ),
        (too_fast_by_hand, "SG107", r"group\['lr'\] = 0\.0\d+ \* \(rate / \(1 \+ step / 100\)\)"),
    ],
)
def test_a_learning_rate_is_changed_where_the_script_gives_it(
    program: Callable[[Listen], None], code: str, text: str, tmp_path: Path
) -> None:
    (finding,) = judged(program, tmp_path / "run")
    assert finding.code == code
    assert re.fullmatch(text, finding.excerpt)
    line = int(finding.where.rpartition(":")[2])
    own = Path(__file__).read_text().splitlines()[line - 1].strip()
    assert own.partition(" = ")[0].replace('"', "'") == finding.excerpt.partition(" = ")[0]


@pytest.mark.parametrize(
    ("program", "code", "line"),
    [
        (clipped_after_the_step, "SG304", f"{OWN}(net.parameters(), 0.1)"),
        (clipped_before_unscale, "SG305", f"{OWN}(net.parameters(), 1.0)"),
        (clipped_at_every_step, "SG501", f"{CLIP}(net.parameters(), "),
        (
            clipped_with_two_models,
            "SG304",
            f"{OWN}([*body.parameters(), *head.parameters()], 0.1)",
        ),
    ],
)
def test_a_clip_names_the_model_of_the_script(
    program: Callable[[Listen], None], code: str, line: str, tmp_path: Path
) -> None:
    (finding,) = judged(program, tmp_path / "run")
    assert finding.code == code
    assert any(each.startswith(line) for each in finding.excerpt.splitlines())


def test_many_models_are_named_by_their_optimizer() -> None:
    parameters = tuple(
        replace(each, model=model)
        for each, model in zip(make_parameters(3), ("enc", "dec", "head"), strict=True)
    )
    made = block([[1.0, 1.0, 1.0]], parameters=parameters)
    held = '[p for group in optimizer.param_groups for p in group["params"]]'
    assert clip_of(made, 0, BY_VALUE, 2.0) == f"torch.nn.utils.clip_grad_value_({held}, 2)"
    assert clip_of(block([[1.0]]), 0, 0, 2.0) == f"{CLIP}(model.parameters(), 2)"
