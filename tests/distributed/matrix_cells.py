"""The cells of the matrix of docs/ranks.md: who reduces the gradients, on how many processes, in
which numbers, with how many micro-batches, and clipped or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import product


class Numbers(StrEnum):
    """What a training computes with."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"  # parameters and gradients, too
    MIXED = "mixed"  # bfloat16 within, parameters and gradients in float32
    SCALED = "scaled"  # float16 within, and a loss scale that a GradScaler divides out


@dataclass(frozen=True)
class Kind:
    """`name` is its row in docs/ranks.md. `data`: how many of two, and of four processes have
    batches of their own. `cuts_sums`: processes round what one adds up at once.
    """

    name: str
    ranks: tuple[int, ...] = (2, 4)
    numbers: tuple[Numbers, ...] = tuple(Numbers)
    data: tuple[int, int] = (2, 4)
    cuts_sums: bool = False


# A GradScaler of torch takes no parameters of which only some are DTensors, or of two meshes; the
# stages of a pipeline but for the last have no loss to scale.
NO_SCALER = (Numbers.FLOAT32, Numbers.BFLOAT16, Numbers.MIXED)
KINDS = {
    "ddp": Kind("DDP, `no_sync`"),
    "by_hand": Kind("`all_reduce` by hand"),
    "zero_1": Kind("DDP and ZeroRedundancyOptimizer (ZeRO-1)"),
    "fsdp1": Kind("FullyShardedDataParallel (FSDP1)"),
    "fsdp2": Kind("`fully_shard` (FSDP2)"),
    "hsdp": Kind("HSDP, 2 × 2", (4,)),
    "tp": Kind("tensor parallel", numbers=NO_SCALER, data=(1, 1), cuts_sums=True),
    "pp": Kind("pipeline, GPipe", numbers=NO_SCALER, data=(1, 1)),
    "ep": Kind("expert parallel, ordinary tensors"),
    "ep_pairs": Kind("expert parallel, each expert on two processes", (4,)),
    "fsdp2_tp": Kind(
        "`fully_shard` and tensor parallel, 2 × 2", (4,), NO_SCALER, data=(1, 2), cuts_sums=True
    ),
    "fsdp2_ep": Kind("`fully_shard`, two experts, each over two of the processes", (4,), NO_SCALER),
    "pp_data": Kind("pipeline and `all_reduce` by hand, 2 × 2", (4,), NO_SCALER, data=(1, 2)),
}


@dataclass(frozen=True)
class Cell:
    """One training."""

    kind: str
    ranks: int
    numbers: Numbers
    parts: int  # micro-batches
    clip: bool

    @property
    def name(self) -> str:
        """Return what its record is called."""
        return "-".join(
            [self.kind, str(self.ranks), self.numbers, str(self.parts), "clip" * self.clip]
        ).rstrip("-")

    @property
    def num_data(self) -> int:
        """Return how many processes have batches of their own."""
        return KINDS[self.kind].data[self.ranks == 4]

    @property
    def num_experts(self) -> int:
        """Return how many different experts there are; none where all is replicated or cut."""
        return {"ep": self.ranks, "ep_pairs": 2, "fsdp2_ep": 2}.get(self.kind, 0)

    @property
    def rounds_alike(self) -> bool:
        """Return whether one process rounds as these do, but for the order of sums in float32."""
        if self.numbers is Numbers.BFLOAT16:
            adds_up_rounded = self.kind == "fsdp1" and self.parts > 1
            return not (self.num_data > 2 or adds_up_rounded or KINDS[self.kind].cuts_sums)
        return self.numbers is Numbers.FLOAT32 or not KINDS[self.kind].cuts_sums


CELLS = {
    cell.name: cell
    for kind, each in KINDS.items()
    for cell in (
        Cell(kind, *how) for how in product(each.ranks, each.numbers, (1, 4), (False, True))
    )
}
