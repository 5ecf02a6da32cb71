"""Convolutions in a LightningModule, with a schedule, clipping and a validation."""
import logging
import os
import warnings

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class LitConv(L.LightningModule):
    def __init__(self, lr=0.05, epochs=6):
        super().__init__()
        self.lr = lr
        self.epochs = epochs
        self.features = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.hidden = nn.Linear(96, 48)
        self.classifier = nn.Linear(48, 10)
        self.criterion = nn.CrossEntropyLoss()
        self.curve = []

    def forward(self, images):
        x = self.features(images).flatten(1)
        x = torch.relu(self.hidden(x))
        return self.classifier(x)

    def training_step(self, batch, batch_idx):
        images, labels = batch
        logits = self(images)
        loss = self.criterion(logits, labels)
        self.curve.append(loss.item())
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        self.log("val_loss", self.criterion(self(images), labels))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


L.seed_everything(int(os.environ.get("SEED", 0)), verbose=False)
digits = load_digits()
data = TensorDataset(torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16, torch.tensor(digits.target))
train, val = torch.utils.data.random_split(data, [1408, 389])
model = LitConv()
trainer = L.Trainer(
    max_epochs=6, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
    enable_model_summary=False, gradient_clip_val=5.0, num_sanity_val_steps=0,
)
trainer.fit(model, DataLoader(train, batch_size=64, shuffle=True), DataLoader(val, batch_size=128))
print(f"score {sum(model.curve[:5]) / 5:.4f} -> {sum(model.curve[-20:]) / 20:.4f}")
