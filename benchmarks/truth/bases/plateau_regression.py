"""House prices, or something like them: a regression with early plateaus."""
import argparse
import os

import torch
import torch.nn as nn
from sklearn.datasets import load_diabetes

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--lr", type=float, default=3e-3)
parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED", 0)))
args = parser.parse_args()
torch.manual_seed(args.seed)

data, price = load_diabetes(return_X_y=True)
data = torch.tensor(data, dtype=torch.float32)
data = (data - data.mean(0)) / data.std(0)
price = torch.tensor(price, dtype=torch.float32).unsqueeze(1)
price = (price - price.mean()) / price.std()
train_x, train_y, val_x, val_y = data[:352], price[:352], data[352:], price[352:]

model = nn.Sequential(nn.Linear(10, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-3)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.5, patience=6)
loss_fn = nn.MSELoss()
history = []
for epoch in range(args.epochs):
    model.train()
    losses = []
    for idx in torch.randperm(len(train_x)).split(32):
        prediction = model(train_x[idx])
        loss = loss_fn(prediction, train_y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        val_loss = loss_fn(model(val_x), val_y).item()
    scheduler.step(val_loss)
    history.append(sum(losses) / len(losses))
print(f"score {history[0]:.4f} -> {history[-1]:.4f}")
