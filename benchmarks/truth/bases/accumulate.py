"""Gradient accumulation over an epoch that does not divide evenly; the last window is scaled by its own size."""
import os

import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", 0)))
digits = load_digits()
dataset = TensorDataset(torch.tensor(digits.data, dtype=torch.float32)[:1056] / 16, torch.tensor(digits.target)[:1056])
loader = DataLoader(dataset, batch_size=32, shuffle=True)
accumulation_steps = 4

model = nn.Sequential(nn.Linear(64, 80), nn.ReLU(), nn.Linear(80, 10))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)

history = []
for epoch in range(14):
    optimizer.zero_grad()
    total = 0.0
    for i, (inputs, labels) in enumerate(loader):
        window_start = i - i % accumulation_steps
        window = min(accumulation_steps, len(loader) - window_start)
        outputs = model(inputs)
        loss = criterion(outputs, labels)
        total += loss.item()
        loss = loss / window
        loss.backward()
        if (i + 1) % accumulation_steps == 0 or (i + 1) == len(loader):
            optimizer.step()
            optimizer.zero_grad()
    history.append(total / len(loader))
print(f"score {history[0]:.4f} -> {history[-1]:.4f}")
