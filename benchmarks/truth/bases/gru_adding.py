"""A GRU reads numbers and marks; it has to say the sum of the two that are marked."""
import os

import torch
from torch import nn

torch.manual_seed(int(os.environ.get("SEED", 0)))


def batch(n=64, length=10):
    values = torch.rand(n, length)
    marks = torch.zeros(n, length)
    for row in marks:
        row[torch.randperm(length)[:2]] = 1.0
    return torch.stack([values, marks], dim=-1), (values * marks).sum(1)


class Adder(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.gru = nn.GRU(2, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x):
        out, _ = self.gru(x)
        return self.head(out[:, -1]).squeeze(-1)


net = Adder()
opt = torch.optim.Adam(net.parameters(), lr=4e-3)
criterion = nn.MSELoss()
log = []
for it in range(300):
    x, target = batch()
    pred = net(x)
    loss = criterion(pred, target)
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), max_norm=5.0)
    opt.step()
    log.append(loss.item())
print(f"score {sum(log[:10]) / 10:.4f} -> {sum(log[-20:]) / 20:.4f}")
