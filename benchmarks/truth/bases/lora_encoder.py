"""Adapters in a frozen recurrent encoder: a new task for old features."""
import os

import torch
from torch import nn

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Adapter(nn.Module):
    def __init__(self, linear, r=4):
        super().__init__()
        self.linear = linear
        self.down = nn.Parameter(torch.empty(r, linear.in_features))
        self.up = nn.Parameter(torch.zeros(linear.out_features, r))
        nn.init.normal_(self.down, std=0.2)

    def forward(self, x):
        return self.linear(x) + x @ self.down.t() @ self.up.t()


def parity_data(n=64):
    x = torch.randn(n, 10)
    return x, (x[:, :3].sum(1) > 0).long()


def sign_data(n=64):
    x = torch.randn(n, 10)
    return x, (x[:, 5:].sum(1) > 0).long()


net = nn.Sequential(nn.Linear(10, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh(), nn.Linear(48, 2))
loss_fn = nn.CrossEntropyLoss()
first = torch.optim.Adam(net.parameters(), lr=3e-3)
for _ in range(120):
    x, y = parity_data()
    first.zero_grad()
    loss_fn(net(x), y).backward()
    first.step()

net.requires_grad_(False)
net[0], net[2] = Adapter(net[0]), Adapter(net[2])
optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=5e-3)
losses = []
for step in range(250):
    x, y = sign_data()
    logits = net(x)
    loss = loss_fn(logits, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(f"score {sum(losses[:5]) / 5:.4f} -> {sum(losses[-20:]) / 20:.4f}")
