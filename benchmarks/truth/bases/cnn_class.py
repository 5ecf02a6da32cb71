"""A convolutional network with batch norm, trained by a class."""
import os

import torch
import torch.nn as nn
from sklearn.datasets import load_digits


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(2),
        )
        self.classifier = nn.Linear(128, 10)

    def forward(self, x):
        x = self.features(x)
        return self.classifier(torch.flatten(x, 1))


class Runner:
    def __init__(self, epochs=8, batch_size=64):
        digits = load_digits()
        self.images = torch.tensor(digits.images, dtype=torch.float32)[:1000, None] / 16
        self.labels = torch.tensor(digits.target)[:1000]
        self.epochs = epochs
        self.batch_size = batch_size
        self.model = ConvNet()
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=epochs)

    def batches(self):
        for index in torch.randperm(len(self.images)).split(self.batch_size):
            yield self.images[index], self.labels[index]

    def step(self, images, labels):
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.model(images)
        loss = self.criterion(logits, labels)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def validate(self):
        self.model.eval()
        with torch.no_grad():
            accuracy = (self.model(self.images[:256]).argmax(1) == self.labels[:256]).float().mean()
        self.model.train()
        return accuracy.item()

    def fit(self):
        history = []
        for epoch in range(self.epochs):
            self.model.train()
            losses = [self.step(images, labels) for images, labels in self.batches()]
            self.scheduler.step()
            self.validate()
            history.append(sum(losses) / len(losses))
        return history


torch.manual_seed(int(os.environ.get("SEED", 0)))
history = Runner().fit()
print(f"score {history[0]:.4f} -> {history[-1]:.4f}")
