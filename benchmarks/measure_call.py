"""What one whole call of a backend takes, with all that Python does for it, next to what others
take for the norms alone.

    python benchmarks/measure_call.py

The gradients are new tensors in each repetition, as `zero_grad` leaves it to the next backward to
make them, and just written.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from shapes import GPT_17M, MANY_SMALL, MLP
from torch import Tensor

from seismograd.measure.backend_selection import make_backend
from seismograd.measure.reference import ReferenceBackend

MODELS = {"MLP 784-256-10": MLP, "500 Linear(64)": MANY_SMALL, "GPT": GPT_17M}


def calls(weights: Sequence[Tensor]) -> dict[str, Callable[[list[Tensor]], object]]:
    native, reference = make_backend(), ReferenceBackend()
    keys = list(range(len(weights)))
    return {
        "norm().item() of each": lambda gradients: [
            gradient.norm().item() for gradient in gradients
        ],
        "_foreach_norm, one transfer": lambda gradients: torch.stack(
            torch._foreach_norm(gradients)
        ).tolist(),
        f"{native.name}": lambda gradients: native.measure(
            gradients, weights, keys, (), sample=False
        ),
        f"{native.name}, sampled iteration": lambda gradients: native.measure(
            gradients, weights, keys, (), sample=True
        ),
        "reference": lambda gradients: reference.measure(
            gradients, weights, keys, (), sample=False
        ),
        "reference, sampled iteration": lambda gradients: reference.measure(
            gradients, weights, keys, (), sample=True
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=41)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for title, shapes in MODELS.items():
        weights = [torch.randn(shape) for shape in shapes]
        functions = calls(weights)
        times: dict[str, list[float]] = {name: [] for name in functions}
        for repetition in range(options.repetitions + 1):
            for name, function in functions.items():
                gradients = [weight.clone() for weight in weights]
                start_s = time.perf_counter()
                function(gradients)
                if repetition > 0:
                    times[name].append(time.perf_counter() - start_s)
        size = f"{sum(map(Tensor.numel, weights)) / 1e6:.1f} M in {len(weights)} tensors"
        print(f"\n{title}, {size}, {torch.get_num_threads()} threads")
        print(f"  {'ms':34} {'median':>8} {'minimum':>8}")
        for name, taken_s in times.items():
            print(f"  {name:34} {1e3 * np.median(taken_s):8.3f} {1e3 * min(taken_s):8.3f}")


if __name__ == "__main__":
    main()
