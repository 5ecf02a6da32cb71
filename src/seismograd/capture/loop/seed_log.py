"""What the program sets the seed of torch's random numbers to, and from where."""

from __future__ import annotations

import sys
from threading import get_ident
from types import CodeType, FrameType

import torch

MAX_FRAMES = 16
MASK = (1 << 64) - 1  # torch takes a negative seed for a large one


class SeedLog:
    """Remembers the last seed, and counts. There is one for the process, as of the generator; no
    lock is taken, for a process that was forked may set its seed while nobody can give one back.
    """

    def __init__(self) -> None:
        self.num = 0  # of seeds that were set while gradients were enabled
        self.num_changes = 0  # of those, how many were another one than before
        self.seed = -1
        self.is_undone = True  # since then the state was set to another one
        self.thread = -1
        # what called it, the innermost first: the code and where in it
        self.chain: list[tuple[CodeType, int]] = []

    def seeded(self, seed: int) -> None:
        """The seed is being set."""
        if not torch.is_grad_enabled():  # by what evaluates
            self.is_undone = True
            return
        seed &= MASK
        if seed != self.seed:
            self.num_changes += 1
            self.seed = seed
        self.num += 1
        self.is_undone, self.thread = False, get_ident()
        chain: list[tuple[CodeType, int]] = []
        self.chain = chain
        frame: FrameType | None = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
        while frame is not None and len(chain) < MAX_FRAMES:
            chain.append((frame.f_code, frame.f_lasti))
            frame = frame.f_back

    def restored(self) -> None:
        """The generator was given a state."""
        self.is_undone = True

    def forget(self) -> None:
        """Keep no code of the program's."""
        self.chain = []


SEEDS = SeedLog()
