"""Sharpness-aware minimisation: two passes for each step."""
import os

import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(int(os.environ.get("SEED", 0)))


class SAM(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer, rho=0.05, **kwargs):
        super().__init__(params, dict(rho=rho, **kwargs))
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.stack([g.norm() for g in grads]).norm()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                self.state[p]["old_p"] = p.data.clone()
                p.add_(p.grad * (group["rho"] / (norm + 1e-12)))
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                p.data = self.state[p]["old_p"]
        self.base_optimizer.step()
        if zero_grad:
            self.zero_grad()


digits = load_digits()
X = torch.tensor(digits.data, dtype=torch.float32)[:1280] / 16
Y = torch.tensor(digits.target)[:1280]
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
criterion = nn.CrossEntropyLoss()
optimizer = SAM(model.parameters(), torch.optim.SGD, rho=0.05, lr=0.1, momentum=0.9)
curve = []
for epoch in range(8):
    for idx in torch.randperm(len(X)).split(64):
        loss = criterion(model(X[idx]), Y[idx])
        loss.backward()
        optimizer.first_step(zero_grad=True)
        criterion(model(X[idx]), Y[idx]).backward()
        optimizer.second_step(zero_grad=True)
        curve.append(loss.item())
print(f"score {sum(curve[:5]) / 5:.4f} -> {sum(curve[-20:]) / 20:.4f}")
