"""A classifier whose moving average is judged after each epoch; a one-cycle schedule for each batch."""
import copy
import os

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(int(os.environ.get("SEED", 0)))
digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32)[:1280] / 16
y = torch.tensor(digits.target)[:1280]
train_x, train_y, test_x, test_y = x[:1024], y[:1024], x[1024:], y[1024:]

model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))
averaged = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.95))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
epochs, batch_size = 8, 64
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=6e-3, epochs=epochs, steps_per_epoch=len(train_x) // batch_size)

history = []
for epoch in range(epochs):
    model.train()
    total = 0.0
    for idx in torch.randperm(len(train_x)).split(batch_size):
        logits = model(train_x[idx])
        loss = F.cross_entropy(logits, train_y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        averaged.update_parameters(model)
        total += loss.item()
    backup = copy.deepcopy(model.state_dict())
    model.load_state_dict(averaged.module.state_dict())
    model.eval()
    with torch.no_grad():
        accuracy = (model(test_x).argmax(1) == test_y).float().mean()
    model.load_state_dict(backup)
    history.append(total / 16)
print(f"score {history[0]:.4f} -> {history[-1]:.4f}")
