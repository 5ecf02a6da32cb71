"""How near the kernel comes to the time that reading the memory takes, and its norms to those of
float64.

    python benchmarks/read_memory.py

Gradients of the size of GPT-2 small (124 M in 148 tensors) are measured and merely read in turn, in
one process, each as often. On a machine that does other things too, compare the ratios: of medians,
of minima, and of the processor time that all threads took together.
"""

from __future__ import annotations

import argparse
import ctypes
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from shapes import GPT2_SMALL
from torch import Tensor

from seismograd.measure.native.library import EXPONENTS, INSTRUCTION_SETS, NUMBERS, WANTED, load
from seismograd.measure.native.native_table import make_table
from seismograd.schema import HISTOGRAM_BINS, FloatArray

BEST = -1


def gradients(spread: float) -> list[Tensor]:
    """Normal numbers; `spread` is the standard deviation of the logarithm of their rows' sizes."""
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(shape, generator=generator).mul_(1e-3) for shape in GPT2_SMALL]
    for gradient in made:
        gradient *= torch.exp(
            spread
            * torch.randn(gradient.shape[0], *[1] * (gradient.dim() - 1), generator=generator)
        )
    return made


class Kernel:
    """The kernel's calls on a table of gradients, without what Python does around them."""

    def __init__(self, library: ctypes.CDLL, tensors: Sequence[Tensor]) -> None:
        self._library = library
        _, self._entries = make_table(tensors)
        self.numbers: FloatArray = np.empty((len(NUMBERS), len(tensors)))
        self._exponents = np.zeros((len(tensors), HISTOGRAM_BINS))

    def read(self) -> None:
        self._library.seismograd_read(
            self._entries.ctypes.data, len(self._entries), torch.get_num_threads()
        )

    def measure(self) -> None:
        self._measure(None)

    def measure_with_histogram(self) -> None:
        self._measure(self._exponents.ctypes.data)

    def _measure(self, exponents: int | None) -> None:
        self._entries[:, WANTED] = 0 if exponents is None else EXPONENTS
        address, count, threads = (
            self._entries.ctypes.data,
            len(self._entries),
            torch.get_num_threads(),
        )
        used = self._library.seismograd_measure(
            address, count, threads, BEST, self.numbers.ctypes.data, exponents
        )
        assert used >= 0


@dataclass
class Times:
    wall_s: list[float] = field(default_factory=list)
    processor_s: list[float] = field(default_factory=list)


def interleaved(calls: dict[str, Callable[[], object]], repetitions: int) -> dict[str, Times]:
    """Each call as often as every other, in turn, beginning with another each time."""
    times = {name: Times() for name in calls}
    for call in calls.values():
        call()
    names = list(calls)
    for repetition in range(repetitions):
        start = repetition % len(names)
        for name in names[start:] + names[:start]:
            processor_s, wall_s = time.process_time(), time.perf_counter()
            calls[name]()
            times[name].wall_s.append(time.perf_counter() - wall_s)
            times[name].processor_s.append(time.process_time() - processor_s)
    return times


def report(title: str, times: dict[str, Times], num_bytes: int) -> None:
    read = times["pure read"]
    print(
        f"\n{title}, {torch.get_num_threads()} threads: pure read "
        f"{num_bytes / np.median(read.wall_s) / 1e9:.1f} GB/s"
    )
    print(f"  {'÷ pure read':34} {'median':>7} {'minimum':>8} {'processor':>10}   median ms")
    for name, taken in times.items():
        median, least = (
            np.median(taken.wall_s) / np.median(read.wall_s),
            min(taken.wall_s) / min(read.wall_s),
        )
        processor = np.median(taken.processor_s) / np.median(read.processor_s)
        print(
            f"  {name:34} {median:7.2f} {least:8.2f} {processor:10.2f} "
            f"{1e3 * np.median(taken.wall_s):11.1f}"
        )


def norm_error(norms: FloatArray, tensors: Sequence[Tensor]) -> float:
    """The largest relative error against float64."""
    errors = []
    for norm, tensor in zip(norms, tensors, strict=True):
        exact = (
            sum(float(part.double().square().sum()) for part in tensor.flatten().split(1 << 22))
            ** 0.5
        )
        errors.append(abs(float(norm) / exact - 1))
    return max(errors)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=21)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    library = load()
    if library is None:
        raise SystemExit("the kernel was not built: pip install -e .")
    sets = [name for number, name in enumerate(INSTRUCTION_SETS) if library.seismograd_has(number)]
    print(
        f"{platform.machine()}, {sets[-1]}, torch {torch.__version__}, {options.repetitions} "
        "repetitions of each, interleaved"
    )
    for title, spread, dtype in (
        ("fp32, normal", 0.0, torch.float32),
        ("fp32, rows of different sizes", 1.5, torch.float32),
        ("bf16, normal", 0.0, torch.bfloat16),
    ):
        tensors = [tensor.to(dtype) for tensor in gradients(spread)]
        kernel = Kernel(library, tensors)
        calls: dict[str, Callable[[], object]] = {
            "pure read": kernel.read,
            "kernel": kernel.measure,
            "kernel with exact histogram": kernel.measure_with_histogram,
            "torch.sum of each": lambda tensors=tensors: [tensor.sum() for tensor in tensors],
            "torch._foreach_norm": lambda tensors=tensors: torch._foreach_norm(tensors),
        }
        num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        report(
            f"{title}, {num_bytes / 1e6:.0f} MB in {len(tensors)} tensors",
            interleaved(calls, options.repetitions),
            num_bytes,
        )
        theirs = np.array([float(norm) for norm in torch._foreach_norm(tensors)])
        print(
            f"  largest error of a norm: kernel {norm_error(kernel.numbers[0], tensors):.1e}, "
            f"torch {norm_error(theirs, tensors):.1e}"
        )


if __name__ == "__main__":
    main()
