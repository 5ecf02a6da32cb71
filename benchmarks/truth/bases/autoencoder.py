"""A convolutional autoencoder that removes noise."""
import os

import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader

torch.manual_seed(int(os.environ.get("SEED", 0)))


class AutoEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 12, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.ReLU()
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(24, 12, 2, stride=2), nn.ReLU(), nn.ConvTranspose2d(12, 1, 2, stride=2), nn.Sigmoid()
        )

    def forward(self, x):
        code = self.encoder(x)
        return self.decoder(code)


images = torch.tensor(load_digits().images, dtype=torch.float32)[:1030].unsqueeze(1) / 16
loader = DataLoader(images, batch_size=64, shuffle=True)
net = AutoEncoder()
mse = nn.MSELoss()
optim = torch.optim.Adam(net.parameters(), lr=3e-3)
scores = []
for epoch in range(10):
    total = 0.0
    for clean in loader:
        noisy = clean + 0.2 * torch.randn_like(clean)
        restored = net(noisy)
        loss = mse(restored, clean)
        optim.zero_grad()
        loss.backward()
        optim.step()
        total += loss.item()
    scores.append(total / len(loader))
print(f"score {scores[0]:.4f} -> {scores[-1]:.4f}")
