"""What parts of the measuring take, which options leave out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class MeasuringTime:
    """Seconds on the training's threads since the second step of each optimizer: reading gradients,
    in steps with and without sampled statistics, and what is looked at beside them.
    """

    plain_s: float = 0.0
    num_plain: int = 0
    sampled_s: float = 0.0
    num_sampled: int = 0
    probes_s: float = 0.0  # updates, states of optimizers
    signals_s: float = 0.0  # of modules

    def of_samples(self) -> float:
        """Return what `--level light` leaves out: all that is not looked at in every step."""
        more_s = 0.0
        if self.num_plain:
            more_s = self.sampled_s - self.num_sampled * self.plain_s / self.num_plain
        return max(0.0, more_s) + self.probes_s + self.signals_s

    def of_steps(self, every: int) -> float:
        """Return what `--every` leaves out."""
        return (self.plain_s + self.sampled_s + self.probes_s) * (1 - 1 / every)
