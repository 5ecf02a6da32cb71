"""A network that has learned digits is adapted to rotated digits with low-rank adapters; the rest stays frozen."""
import math
import os

import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(int(os.environ.get("SEED", 0)))


class LoRALinear(nn.Module):
    def __init__(self, base, rank=8, alpha=16):
        super().__init__()
        self.base = base
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.scaling = alpha / rank

    def forward(self, x):
        return self.base(x) + (x @ self.lora_A.T @ self.lora_B.T) * self.scaling


def batches(x, y, size=64):
    for index in torch.randperm(len(x)).split(size):
        yield x[index], y[index]


def pretrain(model, x, y, epochs=4):
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    criterion = nn.CrossEntropyLoss()
    for _ in range(epochs):
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            criterion(model(xb), yb).backward()
            optimizer.step()


def finetune(model, x, y, epochs=10):
    for p in model.parameters():
        p.requires_grad_(False)
    for i in (0, 2):
        model[i] = LoRALinear(model[i])
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=4e-3, weight_decay=0.0)
    criterion = nn.CrossEntropyLoss()
    history = []
    for epoch in range(epochs):
        total = 0.0
        for xb, yb in batches(x, y):
            optimizer.zero_grad()
            logits = model(xb)
            loss = criterion(logits, yb)
            loss.backward()
            optimizer.step()
            total += loss.item()
        history.append(total / math.ceil(len(x) / 64))
    return history


digits = load_digits()
x = torch.tensor(digits.images, dtype=torch.float32)[:1280] / 16
y = torch.tensor(digits.target)[:1280]
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
pretrain(model, x.flatten(1), y)
history = finetune(model, x.rot90(dims=(1, 2)).flatten(1), y)
print(f"score {history[0]:.4f} -> {history[-1]:.4f}")
