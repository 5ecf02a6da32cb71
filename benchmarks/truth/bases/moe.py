"""A mixture of experts with a loss that keeps them all busy."""
import os

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Expert(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x):
        return self.net(x)


class MoE(nn.Module):
    def __init__(self, dim=24, experts=4):
        super().__init__()
        self.inp = nn.Linear(8, dim)
        self.gate = nn.Linear(dim, experts)
        self.experts = nn.ModuleList([Expert(dim) for _ in range(experts)])
        self.out = nn.Linear(dim, 5)

    def forward(self, x):
        h = F.gelu(self.inp(x))
        weights = self.gate(h).softmax(dim=-1)
        mixed = sum(weights[:, i : i + 1] * expert(h) for i, expert in enumerate(self.experts))
        balance = (weights.mean(0) ** 2).sum() * weights.size(1)
        return self.out(h + mixed), balance


teacher = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 5))
inputs = torch.randn(2048, 8)
with torch.no_grad():
    targets = (3 * teacher(inputs)).argmax(1)

model = MoE()
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
curve = []
for epoch in range(8):
    for idx in torch.randperm(len(inputs)).split(64):
        logits, balance = model(inputs[idx])
        task_loss = F.cross_entropy(logits, targets[idx])
        loss = task_loss + 0.01 * balance
        opt.zero_grad()
        loss.backward()
        opt.step()
        curve.append(task_loss.item())
print(f"score {sum(curve[:5]) / 5:.4f} -> {sum(curve[-20:]) / 20:.4f}")
