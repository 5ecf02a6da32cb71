"""Mixed precision in bfloat16."""
import os

import torch
import torch.nn as nn
from sklearn.datasets import load_digits


def build():
    return nn.Sequential(
        nn.Linear(64, 96), nn.LayerNorm(96), nn.GELU(), nn.Linear(96, 96), nn.LayerNorm(96), nn.GELU(), nn.Linear(96, 10)
    )


def main():
    torch.manual_seed(int(os.environ.get("SEED", 0)))
    digits = load_digits()
    x = torch.tensor(digits.data, dtype=torch.float32)[:1536] / 16
    y = torch.tensor(digits.target)[:1536]
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    criterion = nn.CrossEntropyLoss()
    history = []
    for epoch in range(8):
        for idx in torch.randperm(len(x)).split(64):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(x[idx])
                loss = criterion(logits, y[idx])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            history.append(loss.item())
    print(f"score {sum(history[:5]) / 5:.4f} -> {sum(history[-20:]) / 20:.4f}")


main()
