"""What frameworks write on a parameter about the processes that hold the same one.

Megatron-LM marks the weights that tensor parallelism splits (`tensor_model_parallel`), those whose
gradient is not reduced over all data-parallel processes because they belong to an expert
(`allreduce = False`), and a copy of the input embedding on the last stage of a pipeline (`shared`).
DeepSpeed and Tutel mark the parameters of experts (`allreduce = False`, `group_name`;
`skip_allreduce`). FullyShardedDataParallel marks what it has flattened, of which every process
holds a part.
"""

from __future__ import annotations

import torch

SPLIT = "split"  # processes may hold different tensors of this name
COPY = "copy"  # another parameter is the same one


def mark_of(parameter: torch.Tensor) -> str:
    """Return `SPLIT`, `COPY`, or nothing for a parameter without marks."""
    # A tensor's own attributes: reading others could run the program's code.
    try:
        attributes = vars(parameter)
    except TypeError:
        return ""
    if attributes.get("shared") is True:
        return COPY
    split = (
        attributes.get("tensor_model_parallel") is True
        or attributes.get("allreduce") is False
        or attributes.get("skip_allreduce") is True
        or isinstance(attributes.get("group_name"), str)
        or attributes.get("_fsdp_flattened") is True
        or attributes.get("_is_flat_param") is True
    )
    return SPLIT if split else ""
