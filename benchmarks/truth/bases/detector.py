"""One object in each picture: its class, its box, and whether it is there, with three losses in one sum."""
import os

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(int(os.environ.get("SEED", 0)))


def scene(n=32, size=12):
    images = 0.1 * torch.randn(n, 1, size, size)
    boxes, classes, present = torch.zeros(n, 4), torch.zeros(n, dtype=torch.long), torch.zeros(n)
    for i in range(n):
        if torch.rand(()) < 0.75:
            kind = int(torch.randint(0, 3, ()))
            h, w = [(3, 3), (5, 2), (2, 5)][kind]
            top, left = int(torch.randint(0, size - h, ())), int(torch.randint(0, size - w, ()))
            images[i, 0, top : top + h, left : left + w] += 1.0
            boxes[i] = torch.tensor([top, left, h, w]) / size
            classes[i], present[i] = kind, 1.0
    return images, boxes, classes, present


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(), nn.Flatten()
        )
        self.neck = nn.Linear(24 * 36, 64)
        self.cls_head = nn.Linear(64, 3)
        self.box_head = nn.Linear(64, 4)
        self.obj_head = nn.Linear(64, 1)

    def forward(self, x):
        h = F.relu(self.neck(self.backbone(x)))
        return self.cls_head(h), self.box_head(h), self.obj_head(h).squeeze(1)


def compute_loss(outputs, boxes, classes, present):
    cls_logits, box_pred, obj_logits = outputs
    there = present > 0
    cls_loss = F.cross_entropy(cls_logits[there], classes[there])
    box_loss = F.smooth_l1_loss(box_pred[there], boxes[there])
    obj_loss = F.binary_cross_entropy_with_logits(obj_logits, present)
    return cls_loss + 10.0 * box_loss + obj_loss


train_set = [scene() for _ in range(16)]
model = Detector()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[7, 9], gamma=0.3)
epochs = []
for epoch in range(10):
    total = 0.0
    for images, boxes, classes, present in train_set:
        outputs = model(images)
        loss = compute_loss(outputs, boxes, classes, present)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    scheduler.step()
    epochs.append(total / len(train_set))
print(f"score {epochs[0]:.4f} -> {epochs[-1]:.4f}")
