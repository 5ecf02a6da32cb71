"""Muon for the matrices, AdamW for the rest."""
import os

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(int(os.environ.get("SEED", 0)))


class MLPMixerish(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.embed = nn.Linear(64, width)
        self.hidden1 = nn.Linear(width, width, bias=False)
        self.hidden2 = nn.Linear(width, width, bias=False)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = self.embed(x)
        x = x + torch.relu(self.hidden1(self.norm1(x)))
        x = x + torch.relu(self.hidden2(self.norm2(x)))
        return self.head(x)


digits = load_digits()
X, Y = torch.tensor(digits.data, dtype=torch.float32)[:1280] / 16, torch.tensor(digits.target)[:1280]
model = MLPMixerish()
hidden = [model.hidden1.weight, model.hidden2.weight]
ids = {id(p) for p in hidden}
others = [p for p in model.parameters() if id(p) not in ids]
optimizers = [torch.optim.Muon(hidden, lr=0.01, momentum=0.95), torch.optim.AdamW(others, lr=2e-3)]
loss_fn = nn.CrossEntropyLoss()
losses = []
for epoch in range(8):
    for idx in torch.randperm(len(X)).split(64):
        loss = loss_fn(model(X[idx]), Y[idx])
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
print(f"score {sum(losses[:5]) / 5:.4f} -> {sum(losses[-20:]) / 20:.4f}")
