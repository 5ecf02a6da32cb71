"""Lightning's manual optimisation, as in its GAN: two optimizers in turn, the other's frozen."""

from __future__ import annotations

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader


class Gan(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16))
        self.discriminator = nn.Sequential(nn.Linear(16, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

    def training_step(self, real: Tensor, batch_idx: int) -> None:
        generator, discriminator = self.optimizers()
        noise = torch.randn(len(real), 8)
        one, zero = torch.ones(len(real), 1), torch.zeros(len(real), 1)
        judge = nn.functional.binary_cross_entropy_with_logits

        self.toggle_optimizer(generator)
        loss = judge(self.discriminator(self.generator(noise)), one)
        generator.zero_grad()
        self.manual_backward(loss)
        self.clip_gradients(generator, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
        generator.step()
        self.untoggle_optimizer(generator)

        self.toggle_optimizer(discriminator)
        fake = self.generator(noise).detach()
        both = (judge(self.discriminator(real), one) + judge(self.discriminator(fake), zero)) / 2
        discriminator.zero_grad()
        self.manual_backward(both)
        discriminator.step()
        self.untoggle_optimizer(discriminator)
        print(loss.item().hex(), both.item().hex())

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        parts = (self.generator, self.discriminator)
        return [torch.optim.Adam(part.parameters(), lr=1e-3) for part in parts]


L.seed_everything(1)
loader = DataLoader(torch.randn(160, 16) + 1, batch_size=8, shuffle=True)
trainer = L.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_progress_bar=False)
trainer.fit(Gan(), loader)
