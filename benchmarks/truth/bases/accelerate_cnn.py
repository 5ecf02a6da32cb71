"""Accelerate with gradient accumulation."""
import os

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1)
        self.conv2 = nn.Conv2d(12, 24, 3, padding=1)
        self.fc = nn.Linear(24 * 4, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc(x.flatten(1))


def main():
    set_seed(int(os.environ.get("SEED", 0)))
    accelerator = Accelerator(gradient_accumulation_steps=2, cpu=True)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:1024, None] / 16
    loader = DataLoader(TensorDataset(images, torch.tensor(digits.target)[:1024]), batch_size=32, shuffle=True)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    curve = []
    for epoch in range(8):
        model.train()
        for batch, labels in loader:
            with accelerator.accumulate(model):
                logits = model(batch)
                loss = F.cross_entropy(logits, labels)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 5.0)
                optimizer.step()
                optimizer.zero_grad()
            curve.append(loss.item())
    accelerator.print(f"score {sum(curve[:5]) / 5:.4f} -> {sum(curve[-20:]) / 20:.4f}")


if __name__ == "__main__":
    main()
