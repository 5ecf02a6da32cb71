"""Low-rank adapters: a network that tells odd from even learns which digit it is."""
import math
import os

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

digits = load_digits()
X = torch.tensor(digits.data, dtype=torch.float32)[:1536] / 16
Y = torch.tensor(digits.target)[:1536]


class LoRALinear(nn.Module):
    def __init__(self, base, rank=8, alpha=16):
        super().__init__()
        self.base = base
        self.base.requires_grad_(False)
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank))
        self.scaling = alpha / rank
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, x):
        return self.base(x) + self.scaling * (x @ self.lora_A.t() @ self.lora_B.t())


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 96)
        self.fc2 = nn.Linear(96, 96)
        self.head = nn.Linear(96, 2)

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        return self.head(x)


def batches(size=64):
    for index in torch.randperm(len(X)).split(size):
        yield X[index], Y[index]


def pretrain(body, epochs=3):
    opt = torch.optim.Adam(body.parameters(), lr=2e-3)
    for _ in range(epochs):
        for x, y in batches():
            opt.zero_grad()
            F.cross_entropy(body(x), y % 2).backward()
            opt.step()


def finetune(body, epochs=10):
    body.fc1, body.fc2 = LoRALinear(body.fc1), LoRALinear(body.fc2)
    body.head = nn.Linear(96, 10)
    trainable = [p for p in body.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=5e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=epochs * 24)
    curve = []
    for epoch in range(epochs):
        for x, y in batches():
            optimizer.zero_grad()
            logits = body(x)
            loss = F.cross_entropy(logits, y)
            loss.backward()
            optimizer.step()
            scheduler.step()
            curve.append(loss.item())
    return curve


torch.manual_seed(int(os.environ.get("SEED", 0)))
body = Body()
pretrain(body)
curve = finetune(body)
print(f"score {sum(curve[:5]) / 5:.4f} -> {sum(curve[-20:]) / 20:.4f}")
