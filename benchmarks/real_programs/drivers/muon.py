"""Muon for the matrices and AdamW for the rest: two optimizers after one backward."""

from __future__ import annotations

import torch
from torch import nn

torch.manual_seed(1)
x = torch.randn(320, 16)
y = x[:, :4].argmax(1)
layers = (nn.Linear(16, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
model = nn.Sequential(*layers, nn.Linear(32, 4))
matrices = [parameter for parameter in model.parameters() if parameter.ndim == 2]
others = [parameter for parameter in model.parameters() if parameter.ndim != 2]
optimizers = [
    torch.optim.Muon(matrices, lr=0.01, weight_decay=0.0),
    torch.optim.AdamW(others, lr=3e-3),
]
for _ in range(10):
    for inputs, labels in zip(x.split(32), y.split(32), strict=True):
        loss = nn.functional.cross_entropy(model(inputs), labels)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
    print(loss.item().hex())
