"""Two networks against each other: points on a ring."""
import os

import torch
from torch import nn

torch.manual_seed(int(os.environ.get("SEED", 0)))
device = "cpu"
latent = 4
batch_size = 64

netG = nn.Sequential(nn.Linear(latent, 48), nn.LeakyReLU(0.2), nn.Linear(48, 48), nn.LeakyReLU(0.2), nn.Linear(48, 2))
netD = nn.Sequential(nn.Linear(2, 48), nn.LeakyReLU(0.2), nn.Linear(48, 48), nn.LeakyReLU(0.2), nn.Linear(48, 1))
criterion = nn.BCEWithLogitsLoss()
optimizerD = torch.optim.Adam(netD.parameters(), lr=1e-3, betas=(0.5, 0.999))
optimizerG = torch.optim.Adam(netG.parameters(), lr=1e-3, betas=(0.5, 0.999))


def real_points(n):
    angle = torch.rand(n) * 6.2832
    return torch.stack([2 + angle.cos(), angle.sin() - 2], 1) + 0.05 * torch.randn(n, 2)


def distance():
    with torch.no_grad():
        fake = netG(torch.randn(512, latent))
    return (fake.mean(0) - torch.tensor([2.0, -2.0])).norm().item()


before = distance()
for i in range(400):
    # (1) Update D network
    netD.zero_grad()
    real = real_points(batch_size)
    errD_real = criterion(netD(real).view(-1), torch.ones(batch_size))
    errD_real.backward()
    fake = netG(torch.randn(batch_size, latent))
    errD_fake = criterion(netD(fake.detach()).view(-1), torch.zeros(batch_size))
    errD_fake.backward()
    optimizerD.step()
    # (2) Update G network
    netG.zero_grad()
    errG = criterion(netD(fake).view(-1), torch.ones(batch_size))
    errG.backward()
    optimizerG.step()
print(f"score {before:.4f} -> {distance():.4f}")
