"""A large network teaches a small one."""
import os

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(int(os.environ.get("SEED", 0)))
digits = load_digits()
X = torch.tensor(digits.data, dtype=torch.float32)[:1285] / 16
Y = torch.tensor(digits.target)[:1285]

teacher = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
student = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))


def train_teacher(epochs=4):
    optimizer = torch.optim.Adam(teacher.parameters(), lr=3e-3)
    for epoch in range(epochs):
        for idx in torch.randperm(len(X)).split(64):
            loss = F.cross_entropy(teacher(X[idx]), Y[idx])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def distill(epochs=10, T=2.0, alpha=0.5):
    teacher.eval()
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    losses = []
    for epoch in range(epochs):
        for idx in torch.randperm(len(X)).split(64):
            with torch.no_grad():
                teacher_logits = teacher(X[idx])
            student_logits = student(X[idx])
            soft = F.kl_div(F.log_softmax(student_logits / T, dim=1), F.softmax(teacher_logits / T, dim=1), reduction="batchmean")
            hard = F.cross_entropy(student_logits, Y[idx])
            loss = alpha * T * T * soft + (1 - alpha) * hard
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


train_teacher()
losses = distill()
print(f"score {sum(losses[:5]) / 5:.4f} -> {sum(losses[-20:]) / 20:.4f}")
