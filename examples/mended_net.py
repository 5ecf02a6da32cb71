"""The network of broken_net.py after the change that seismograd proposes: it learns.

seismograd run examples/mended_net.py       # then: seismograd compare
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from small_net import SHIPPED_DIGITS, read_digits
from torch import nn

torch.manual_seed(0)
images, labels = read_digits(SHIPPED_DIGITS, "t10k")

layers, width = [], 784
for _ in range(10):
    layers += [nn.Linear(width, 32), nn.LayerNorm(32), nn.ReLU()]  # nn.Sigmoid() before
    width = 32
model = nn.Sequential(*layers, nn.Linear(32, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

for epoch in range(3):
    for batch in torch.randperm(len(images)).split(64):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}, loss={loss.item():.4f}")
