"""Trainings with DeepSpeed's ZeRO, each once as it is and once watched: zero.py OUT CASE...

Every process prints the digests of its weights without and with watching. Rank 0 leaves the record
in OUT/CASE, and in OUT/CASE.npz what one process with all data has; with bfloat16, which rounds
differently there, what DeepSpeed's own `safe_get_full_grad` returns in the same training.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

os.environ["DS_ACCELERATOR"] = "cpu"
warnings.simplefilter("ignore")

import deepspeed  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from deepspeed.utils import safe_get_full_grad  # noqa: E402

import seismograd  # noqa: E402
from tests.distributed.loops import (  # noqa: E402
    STEPS,
    Case,
    all_batches,
    batch,
    loss_of,
    net,
    reference,
    two_parts_of_all,
)
from tests.distributed.zero_cases import (  # noqa: E402
    CASES,
    LIMIT,
    ZeroCase,
    compile_no_extensions,
    config_of,
)


def engine_of(case: ZeroCase) -> Any:
    model = net().float()
    limit = LIMIT if case.clip else 0.0
    config = config_of(case.stage, case.parts, limit, **dict(case.zero))
    config["bf16"] = {"enabled": case.bfloat16}
    parameters = list(model.parameters())
    listed: Any = parameters
    if case.groups == 2:
        listed = [{"params": parameters[:3]}, {"params": parameters[3:]}]
    if case.adam:
        optimizer: Any = torch.optim.AdamW(listed, 0.01)
    else:
        optimizer = torch.optim.SGD(listed, 0.1, momentum=0.9)
    return deepspeed.initialize(model=model, optimizer=optimizer, config=config)[0]


def train(case: ZeroCase, out: Path | None) -> tuple[str, dict[str, np.ndarray]]:
    engine = engine_of(case)
    dtype = torch.bfloat16 if case.bfloat16 else torch.float32
    given = (engine.module,) if case.clip else (engine, engine.optimizer)
    watching = nullcontext() if out is None else seismograd.watch(*given, out=out)
    found: dict[str, list[float]] = {}
    with watching:
        for step in range(STEPS):
            for part in range(case.parts):
                rows = batch(step, dist.get_rank(), part).to(dtype)
                engine.backward(loss_of(engine, rows))
                if part == case.parts - 1 and case.bfloat16:
                    for name, p in engine.module.named_parameters():
                        norm = float(safe_get_full_grad(p).double().norm())
                        found.setdefault(f"grad_norm {name}", []).append(norm)
                engine.step()
    digest = [float(p.double().sum()) for p in whole_weights(engine)]
    engine.destroy()
    return json.dumps(digest), {name: np.array(norms) for name, norms in found.items()}


def whole_weights(engine: Any) -> list[torch.Tensor]:
    parameters = list(engine.module.parameters())
    with deepspeed.zero.GatheredParameters(parameters):
        return [p.detach().clone() for p in parameters]


def main(out: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    compile_no_extensions()
    deepspeed.init_distributed("gloo", verbose=False)
    for name in names:
        case = CASES[name]
        alone, _ = train(case, None)
        watched, expected = train(case, out / name)
        if not case.bfloat16:
            alone_step = all_batches if case.parts == 1 else two_parts_of_all
            clip = LIMIT if case.clip else None
            expected = reference(Case("", "", net, alone_step, alone_step, clip=clip))
        if dist.get_rank() == 0:
            np.savez(out / f"{name}.npz", **expected)
        print(json.dumps({"case": name, "alone": alone, "watched": watched}), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
