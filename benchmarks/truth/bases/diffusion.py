"""Denoising diffusion on two moons, with a moving average of the weights for sampling."""
import copy
import os

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import make_moons

seed = int(os.environ.get("SEED", 0))
torch.manual_seed(seed)
T = 50
betas = torch.linspace(1e-3, 0.15, T)
alphas_bar = torch.cumprod(1 - betas, dim=0)
data = torch.tensor(make_moons(2000, noise=0.05, random_state=seed)[0], dtype=torch.float32)


class Denoiser(nn.Module):
    def __init__(self, hidden=96):
        super().__init__()
        self.time = nn.Embedding(T, hidden)
        self.input = nn.Linear(2, hidden)
        self.middle = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.output = nn.Linear(hidden, 2)

    def forward(self, x, t):
        return self.output(self.middle(self.input(x) + self.time(t)))


class EMA:
    def __init__(self, model, decay=0.98):
        self.decay = decay
        self.shadow = copy.deepcopy(model.state_dict())
        self.backup = None

    @torch.no_grad()
    def update(self, model):
        for name, value in model.state_dict().items():
            self.shadow[name].lerp_(value, 1 - self.decay)

    def apply(self, model):
        self.backup = copy.deepcopy(model.state_dict())
        model.load_state_dict(self.shadow)

    def restore(self, model):
        model.load_state_dict(self.backup)


def diffusion_loss(model, x0):
    t = torch.randint(0, T, (len(x0),))
    noise = torch.randn_like(x0)
    a = alphas_bar[t].unsqueeze(1)
    xt = a.sqrt() * x0 + (1 - a).sqrt() * noise
    return F.mse_loss(model(xt, t), noise)


def validate(model):
    with torch.no_grad():
        return diffusion_loss(model, data[:512]).item()


model = Denoiser()
ema = EMA(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
history = []
for epoch in range(12):
    for x0 in data[torch.randperm(len(data))].split(80):
        loss = diffusion_loss(model, x0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update(model)
        history.append(loss.item())
    ema.apply(model)
    validate(model)
    ema.restore(model)
print(f"score {sum(history[:5]) / 5:.4f} -> {sum(history[-25:]) / 25:.4f}")
