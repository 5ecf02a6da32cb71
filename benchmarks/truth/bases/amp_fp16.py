"""Mixed precision in float16 with a gradient scaler and clipping, in the manner of the AMP recipe."""
import os

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(int(os.environ.get("SEED", 0)))
digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32)[:1024] / 16
y = torch.tensor(digits.target)[:1024]

net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
loss_fn = nn.CrossEntropyLoss()
opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

history = []
for epoch in range(8):
    for idx in torch.randperm(len(x)).split(64):
        with torch.autocast(device_type="cpu", dtype=torch.float16):
            output = net(x[idx])
            loss = loss_fn(output, y[idx])
        scaler.scale(loss).backward()
        scaler.unscale_(opt)
        torch.nn.utils.clip_grad_norm_(net.parameters(), max_norm=5.0)
        scaler.step(opt)
        scaler.update()
        opt.zero_grad()
        history.append(loss.item())
print(f"score {sum(history[:5]) / 5:.4f} -> {sum(history[-16:]) / 16:.4f}")
