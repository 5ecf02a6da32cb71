"""The trainings of `zero.py` and what they are configured by, without importing DeepSpeed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LIMIT, TOLERANCE = 0.05, 1e-5


@dataclass(frozen=True)
class ZeroCase:
    """`loop` is its name in docs/ranks.md; `parts`: micro-batches that accumulate."""

    loop: str
    stage: int
    parts: int = 1
    clip: bool = False
    bfloat16: bool = False
    groups: int = 1
    zero: tuple[tuple[str, Any], ...] = ()
    adam: bool = False
    num_ranks: int = 2


def config_of(stage: int, parts: int, limit: float, **zero: Any) -> dict[str, Any]:
    """Return DeepSpeed's configuration of a training; a limit of 0 clips nothing."""
    return {
        "train_micro_batch_size_per_gpu": 4,
        "gradient_accumulation_steps": parts,
        "gradient_clipping": limit,
        "zero_optimization": {"stage": stage, **zero},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }


def compile_no_extensions() -> None:
    """Keep DeepSpeed from compiling any of its own operations."""
    import deepspeed

    for each in deepspeed.ops.__compatible_ops__:
        deepspeed.ops.__compatible_ops__[each] = False


CASES = {
    "stage_0": ZeroCase("DeepSpeed, ZeRO stage 0", 0),
    "stage_1": ZeroCase("DeepSpeed, ZeRO stage 1", 1),
    "stage_2": ZeroCase("DeepSpeed, ZeRO stage 2", 2),
    "stage_3": ZeroCase("DeepSpeed, ZeRO stage 3", 3),
    "stage_0_clip": ZeroCase("DeepSpeed, ZeRO stage 0, accumulation and clip", 0, 2, True),
    "stage_1_clip": ZeroCase("DeepSpeed, ZeRO stage 1, accumulation and clip", 1, 2, True),
    "stage_2_clip": ZeroCase("DeepSpeed, ZeRO stage 2, accumulation and clip", 2, 2, True),
    "stage_3_clip": ZeroCase("DeepSpeed, ZeRO stage 3, accumulation and clip", 3, 2, True),
    "groups": ZeroCase(
        "DeepSpeed, ZeRO stage 2, two groups of parameters, `round_robin_gradients`",
        2,
        groups=2,
        zero=(("round_robin_gradients", True),),
    ),
    "sub_groups": ZeroCase(
        "DeepSpeed, ZeRO stage 3, two groups of parameters, small sub-groups",
        3,
        groups=2,
        zero=(("sub_group_size", 20),),
    ),
    "stage_0_bf16": ZeroCase(
        "DeepSpeed, ZeRO stage 0, bfloat16 and clip", 0, 2, True, True, adam=True
    ),
    "stage_1_bf16": ZeroCase(
        "DeepSpeed, ZeRO stage 1, bfloat16 and clip", 1, 2, True, True, adam=True
    ),
    "stage_2_bf16": ZeroCase(
        "DeepSpeed, ZeRO stage 2, bfloat16 and clip", 2, 2, True, True, adam=True
    ),
    "stage_3_bf16": ZeroCase(
        "DeepSpeed, ZeRO stage 3, bfloat16 and clip", 3, 2, True, True, adam=True
    ),
    "offload_2": ZeroCase(
        "DeepSpeed, ZeRO stage 2, optimizer on the CPU",
        2,
        zero=(("offload_optimizer", {"device": "cpu"}),),
    ),
    "offload_3": ZeroCase(
        "DeepSpeed, ZeRO stage 3, optimizer on the CPU",
        3,
        zero=(("offload_optimizer", {"device": "cpu"}),),
    ),
    "stage_2_of_4": ZeroCase(
        "DeepSpeed, ZeRO stage 2, accumulation and clip", 2, 2, True, num_ranks=4
    ),
    "stage_3_of_4": ZeroCase(
        "DeepSpeed, ZeRO stage 3, accumulation and clip", 3, 2, True, num_ranks=4
    ),
}
