"""Several networks at once, in comprehensions."""
import os

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.optim import Adam

torch.manual_seed(int(os.environ.get("SEED", 0)))
digits = load_digits()
x, y = torch.tensor(digits.data, dtype=torch.float32)[:1024] / 16, torch.tensor(digits.target)[:1024]

members = [nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)) for _ in range(3)]
optimizers = [Adam(member.parameters(), lr=4e-3) for member in members]
criterion = nn.CrossEntropyLoss()
means = []
for epoch in range(8):
    seen = []
    for index in torch.randperm(len(x)).split(64):
        for member, optimizer in zip(members, optimizers):
            optimizer.zero_grad()
            loss = criterion(member(x[index]), y[index])
            loss.backward()
            optimizer.step()
            seen.append(loss.item())
    means.append(sum(seen) / len(seen))
print(f"score {means[0]:.4f} -> {means[-1]:.4f}")
