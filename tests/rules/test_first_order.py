"""SG802 on derivatives without a graph in the residual of a differential equation."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import seismograd  # noqa: E402
from seismograd.capture.source.first_order import first_order_residual  # noqa: E402
from seismograd.schema import Finding  # noqa: E402

PROGRAM = """
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import grad

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

{code}

for step in range(16):
    x = torch.rand(32, 2)
    optimizer.zero_grad()
    loss = loss_of(x)
    loss.backward()
    optimizer.step()
"""

FAULTY = {
    "laplacian in a loop": """
def laplacian(u, x):
    g = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
    total = torch.zeros_like(u)
    for k in range(2):
        d2 = torch.autograd.grad(g[:, k].sum(), x, retain_graph=True)[0]
        total = total + d2[:, k : k + 1]
    return total

def loss_of(x):
    x.requires_grad_(True)
    u = net(x)
    return (laplacian(u, x) + u ** 3 - 1).pow(2).mean()
""",
    "burgers": """
def loss_of(x):
    x = x.requires_grad_()
    u = net(x)
    g, = grad(u, x, torch.ones_like(u), create_graph=True)
    u_t, u_x = g[:, :1], g[:, 1:]
    u_xx = grad(u_x, x, torch.ones_like(u_x), retain_graph=True)[0][:, 1:]
    f = u_t + u * u_x - 0.01 * u_xx
    return F.mse_loss(f, torch.zeros_like(f))
""",
    "first order, with a boundary term": """
class Equation:
    def residual(self, x):
        u = net(x)
        slope = torch.autograd.grad(u.sum(), x, create_graph=False, retain_graph=True)[0]
        return slope[:, :1] + 2 * u

    def loss(self, x):
        boundary = net(x * torch.tensor([0.0, 1.0])).square().mean()
        return self.residual(x.requires_grad_(True)).square().mean() + boundary

equation = Equation()

def loss_of(x):
    return equation.loss(x)
""",
    "compared with the right side": """
def loss_of(x):
    x.requires_grad_(True)
    u = net(x)
    u_x = torch.autograd.grad(u.sum(), x, retain_graph=True)[0][:, :1]
    rest = u_x - u
    loss = F.mse_loss(rest, x[:, 1:].detach()) * 10
    return loss
""",
}
LINES = {
    "laplacian in a loop": 16,
    "burgers": 17,
    "first order, with a boundary term": 15,
    "compared with the right side": 15,
}

HEALTHY = {
    "with a graph": FAULTY["laplacian in a loop"].replace("retain_graph", "create_graph"),
    "an attack": """
def loss_of(x):
    x = x.clone().requires_grad_(True)
    g = torch.autograd.grad(net(x).square().sum(), x)[0]
    attacked = (x + 0.1 * g.sign()).clamp(0, 1)
    return (net(attacked) - 1).square().mean() + (net(x) - 1).square().mean()
""",
    "samples of Langevin's dynamics": """
def sample(x):
    for _ in range(3):
        x = x.detach().requires_grad_(True)
        g = torch.autograd.grad(net(x).sum(), x)[0]
        x = x - 0.1 * g + 0.01 * torch.randn_like(x)
    return x

def loss_of(x):
    x.requires_grad_(True)
    return (net(x) - net(sample(x))).mean() + net(x).square().mean()
""",
    "weights of terms": """
def loss_of(x):
    x.requires_grad_(True)
    u = net(x)
    u_x = torch.autograd.grad(u.sum(), x, create_graph=True)[0][:, :1]
    residual, boundary = (u_x + u).square().mean(), (u - 1).square().mean()
    at = torch.autograd.grad(residual, net[0].weight, retain_graph=True)[0]
    other = torch.autograd.grad(boundary, net[0].weight, retain_graph=True)[0]
    weight = at.abs().max() / other.abs().mean().clamp(min=1e-3)
    return residual + weight.clamp(max=10) * boundary
""",
    "a diagnosis beside it": """
def curvature(u, x):
    g = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
    return torch.autograd.grad(g.sum(), x, retain_graph=True)[0] + 1

def loss_of(x):
    x.requires_grad_(True)
    u = net(x)
    loss = (u - x[:, :1]).square().mean()
    sharp = curvature(u, x).abs().mean().item()
    return loss
""",
    "weights of samples": """
def loss_of(x):
    x.requires_grad_(True)
    u = net(x)
    g = torch.autograd.grad(u.sum(), x, retain_graph=True)[0]
    weight = 1 + g.norm(dim=1, keepdim=True)
    return (weight * (u - x[:, :1].detach()).square()).mean()
""",
}


def judged(path: Path, code: str) -> list[Finding]:
    file = path / "train.py"
    file.write_text(PROGRAM.format(code=code))
    with seismograd.watch(out=path / "run") as recording:
        exec(compile(file.read_text(), str(file), "exec"), {"__name__": "train"})
    return [each for each in recording.findings if each.severity != "info"]


@pytest.mark.parametrize("name", FAULTY)
def test_a_derivative_without_a_graph_is_found(name: str, tmp_path: Path) -> None:
    (finding,) = judged(tmp_path, FAULTY[name])
    assert (finding.code, finding.first_step) == ("SG802", 0)
    assert finding.where.endswith(f"train.py:{LINES[name]}")
    assert "keeps none without create_graph=True" in finding.cause.render()
    assert "create_graph=True" in finding.excerpt


@pytest.mark.parametrize("name", HEALTHY)
def test_derivatives_that_the_loss_does_not_need_are_left_alone(name: str, tmp_path: Path) -> None:
    assert judged(tmp_path, HEALTHY[name]) == []


def test_a_file_that_cannot_be_read_shows_nothing(tmp_path: Path) -> None:
    assert first_order_residual(str(tmp_path / "none.py")) is None
    (tmp_path / "broken.py").write_text("def (")
    assert first_order_residual(str(tmp_path / "broken.py")) is None
