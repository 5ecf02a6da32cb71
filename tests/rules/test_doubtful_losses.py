"""Losses that do not tell how a training goes: no rule says that they have risen, nor does the
verdict.
"""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402
from torch.distributions import Categorical  # noqa: E402

from seismograd.diagnosis.training_course import Trend, training_course  # noqa: E402
from seismograd.diagnosis.verdict import make_verdict  # noqa: E402
from seismograd.record.reader import open_run  # noqa: E402
from seismograd.views.verdict_words import course_lines, without_findings  # noqa: E402
from tests.rules.programs import Listen, Program, adam, mlp  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402

FEATURES, LONGEST = 4, 200


def codes(program: Program, path: Path) -> list[str]:
    return [finding.code for finding in judged(program, path)]


def said(path: Path) -> str:
    """What the verdict says of the loss, without and with findings."""
    run = open_run(path)
    course = training_course(run)
    lines = [without_findings(course, 50)]
    return " ".join([*lines, *course_lines(make_verdict(run, (), ()), course)])


def policy_gradient(listen: Listen) -> None:
    """An episode goes on until an action is wrong where it matters, each step with a reward of
    one.
    """
    torch.manual_seed(0)
    right = torch.randn(FEATURES)
    policy = nn.Sequential(nn.Linear(FEATURES, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = adam(policy, 2e-2)
    with listen(policy, optimizer):
        for _ in range(24):
            seen, done, returns = [], [], []
            while len(seen) < 400:
                states = torch.randn(LONGEST, FEATURES)
                with torch.no_grad():
                    actions = Categorical(logits=policy(states)).sample()
                side = states @ right
                wrong = ((actions != (side > 0)) & (side.abs() > 2)).nonzero()
                length = LONGEST if not len(wrong) else int(wrong[0]) + 1
                seen += states[:length]
                done += actions[:length]
                returns += [float(length - step) for step in range(length)]
            log_p = Categorical(logits=policy(torch.stack(seen))).log_prob(torch.stack(done))
            loss = -(log_p * torch.tensor(returns)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def test_a_policy_gradient_that_learns_is_not_told_that_its_loss_rose(tmp_path: Path) -> None:
    assert codes(policy_gradient, tmp_path / "run") == []
    course = training_course(open_run(tmp_path / "run"))
    assert course.last_loss > 2 * course.first_loss  # the episodes are longer
    assert course.trend == Trend.POLICY
    assert "rose" not in said(tmp_path / "run")
    assert "log-probabilities" in said(tmp_path / "run")


def projected(listen: Listen) -> None:
    """PCGrad: a backward of each objective, with the gradients of the one before cleared."""
    torch.manual_seed(0)
    x = torch.randn(512, 16)
    labels = (x @ torch.randn(16, 4)).argmax(1)
    model = nn.Linear(16, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with listen(model, optimizer):
        for _ in range(100):
            out = model(x)
            found = []
            for objective in (F.cross_entropy(out, labels), 0.05 * out.pow(2).mean()):
                optimizer.zero_grad()
                objective.backward(retain_graph=True)
                found.append([p.grad.clone() for p in model.parameters()])
            for p, *both in zip(model.parameters(), *found, strict=True):
                p.grad = torch.stack(both).sum(0)
            optimizer.step()


def test_gradients_of_several_backwards_are_not_judged_by_the_loss_of_the_last(
    tmp_path: Path,
) -> None:
    assert codes(projected, tmp_path / "run") == []
    course = training_course(open_run(tmp_path / "run"))
    assert (course.trend, course.num_classes) == (Trend.REPLACED, 0)
    assert "rose" not in said(tmp_path / "run")
    assert "guess" not in said(tmp_path / "run")
    assert "replaces the gradients" in said(tmp_path / "run")


def clipped_by_hand(listen: Listen) -> None:
    """Gradients are changed in place, and a backward of the same iteration was cleared."""
    model = mlp(2, nn.ReLU)
    optimizer = adam(model)
    generator = torch.Generator().manual_seed(0)
    with listen(model, optimizer):
        for _ in range(40):
            x = torch.randn(64, 16, generator=generator)
            model(x).pow(2).mean().backward()  # only looked at
            optimizer.zero_grad()
            F.cross_entropy(model(x), x[:, :4].argmax(1)).backward()
            for p in model.parameters():
                p.grad.clamp_(-0.1, 0.1)
            optimizer.step()


def test_a_loss_whose_gradients_are_clipped_by_hand_is_judged(tmp_path: Path) -> None:
    codes(clipped_by_hand, tmp_path / "run")
    assert training_course(open_run(tmp_path / "run")).trend == Trend.FELL
