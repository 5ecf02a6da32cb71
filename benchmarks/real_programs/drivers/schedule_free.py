"""Schedule-free AdamW as in its README: the optimizer is told when to train and when to judge."""

from __future__ import annotations

from schedulefree import AdamWScheduleFree
import torch
from torch import nn

torch.manual_seed(1)
x = torch.randn(320, 16)
y = x[:, :4].argmax(1)
model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 4))
optimizer = AdamWScheduleFree(model.parameters(), lr=0.01, warmup_steps=10)
for _ in range(10):
    model.train()
    optimizer.train()
    for inputs, labels in zip(x.split(32), y.split(32), strict=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    model.eval()
    optimizer.eval()
    print(nn.functional.cross_entropy(model(x), y).item().hex())
