"""A convolutional network in float16, in a class."""
import os

import torch
import torch.nn as nn
from sklearn.datasets import load_digits


class SmallConv(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 12, 3, padding=1)
        self.pool = nn.AvgPool2d(2)
        self.fc1 = nn.Linear(12 * 16, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = self.pool(torch.relu(self.conv(x)))
        x = torch.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)


class Trainer:
    def __init__(self, lr=2e-3):
        self.model = SmallConv()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=lr)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
        self.criterion = nn.CrossEntropyLoss()

    def train_step(self, images, labels):
        self.optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            logits = self.model(images)
            loss = self.criterion(logits, labels)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), 3.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.item()


torch.manual_seed(int(os.environ.get("SEED", 0)))
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:768].unsqueeze(1) / 16
labels = torch.tensor(digits.target)[:768]
trainer = Trainer()
curve = []
for epoch in range(8):
    for index in torch.randperm(len(images)).split(64):
        curve.append(trainer.train_step(images[index], labels[index]))
print(f"score {sum(curve[:5]) / 5:.4f} -> {sum(curve[-12:]) / 12:.4f}")
