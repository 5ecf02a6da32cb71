"""A U-Net of two levels marks bright discs."""
import os

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(int(os.environ.get("SEED", 0)))


def conv_block(inp, out):
    return nn.Sequential(nn.Conv2d(inp, out, 3, padding=1), nn.GroupNorm(4, out), nn.ReLU())


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1 = conv_block(1, 8)
        self.down2 = conv_block(8, 16)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.fuse = conv_block(16, 8)
        self.final = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.fuse(torch.cat([a, self.up(b)], 1))
        return self.final(c)


def batch(n=16, size=16):
    grid = torch.stack(torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")).float()
    centre = torch.rand(n, 2, 1, 1) * size
    mask = ((grid - centre).pow(2).sum(1) < 20).long()
    return (mask.float() + 0.4 * torch.randn(n, size, size)).unsqueeze(1), mask


model = UNet()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
criterion = nn.CrossEntropyLoss()
losses = []
for step in range(150):
    images, masks = batch()
    logits = model(images)
    loss = criterion(logits, masks)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(f"score {sum(losses[:5]) / 5:.4f} -> {sum(losses[-10:]) / 10:.4f}")
