"""A small residual network under a one-cycle schedule."""
import os

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

SEED = int(os.environ.get("SEED", 0))
EPOCHS = 6
BATCH = 64


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + x)


class ResNet(nn.Module):
    def __init__(self, channels=12, depth=3):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.layers = nn.ModuleList([Block(channels) for _ in range(depth)])
        self.head = nn.Linear(channels * 4, 10)

    def forward(self, x):
        x = F.relu(self.stem(x))
        for layer in self.layers:
            x = layer(x)
        x = F.adaptive_avg_pool2d(x, 2).flatten(1)
        return self.head(x)


def main():
    torch.manual_seed(SEED)
    digits = load_digits()
    images = torch.tensor(digits.images[:1024], dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target[:1024])
    net = ResNet()
    steps_per_epoch = len(images) // BATCH
    opt = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-4)
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=0.1, total_steps=EPOCHS * steps_per_epoch)
    means = []
    for epoch in range(EPOCHS):
        order = torch.randperm(len(images))
        losses = []
        for k in range(steps_per_epoch):
            idx = order[k * BATCH : (k + 1) * BATCH]
            opt.zero_grad()
            pred = net(images[idx])
            loss = F.cross_entropy(pred, labels[idx])
            loss.backward()
            opt.step()
            sched.step()
            losses.append(loss.item())
        means.append(sum(losses) / len(losses))
    print(f"score {means[0]:.4f} -> {means[-1]:.4f}")


main()
