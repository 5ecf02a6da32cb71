"""SimCLR on digits: two noisy views, one InfoNCE loss."""
import os

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(int(os.environ.get("SEED", 0)))
images = torch.tensor(load_digits().data, dtype=torch.float32)[:1600] / 16


def augment(x):
    return x * (torch.rand_like(x) > 0.2) + 0.05 * torch.randn_like(x)


class SimCLR(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 48))
        self.projector = nn.Sequential(nn.ReLU(), nn.Linear(48, 24))

    def forward(self, x):
        h = self.backbone(x)
        z = self.projector(h)
        return F.normalize(z, dim=1)


def info_nce(z1, z2, temperature=0.2):
    logits = z1 @ z2.t() / temperature
    labels = torch.arange(len(z1))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.t(), labels)) / 2


def main():
    model = SimCLR()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    curve = []
    for epoch in range(12):
        for batch in images[torch.randperm(len(images))].split(64):
            z1, z2 = model(augment(batch)), model(augment(batch))
            loss = info_nce(z1, z2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            curve.append(loss.item())
    print(f"score {sum(curve[:5]) / 5:.4f} -> {sum(curve[-20:]) / 20:.4f}")


if __name__ == "__main__":
    main()
