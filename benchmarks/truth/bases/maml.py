"""Model-agnostic meta-learning on sine waves."""
import os

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.func import functional_call

torch.manual_seed(int(os.environ.get("SEED", 0)))

net = nn.Sequential(nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1))
meta_opt = torch.optim.Adam(net.parameters(), lr=2e-3)
inner_lr = 0.1


def sample_task():
    amplitude, phase = 0.5 + 1.5 * torch.rand(()), 3.14 * torch.rand(())

    def draw(n):
        x = 6 * torch.rand(n, 1) - 3
        return x, amplitude * torch.sin(x + phase)

    return draw


def adapt(params, x, y):
    loss = F.mse_loss(functional_call(net, params, (x,)), y)
    grads = torch.autograd.grad(loss, list(params.values()), create_graph=True)
    return {name: p - inner_lr * g for (name, p), g in zip(params.items(), grads)}


history = []
for iteration in range(200):
    meta_loss = 0.0
    for _ in range(4):
        draw = sample_task()
        params = dict(net.named_parameters())
        fast = adapt(params, *draw(10))
        x, y = draw(20)
        meta_loss = meta_loss + F.mse_loss(functional_call(net, fast, (x,)), y) / 4
    meta_opt.zero_grad()
    meta_loss.backward()
    meta_opt.step()
    history.append(meta_loss.item())
print(f"score {sum(history[:10]) / 10:.4f} -> {sum(history[-20:]) / 20:.4f}")
