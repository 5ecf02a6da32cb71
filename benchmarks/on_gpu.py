"""What measuring on a CUDA GPU costs, and whether a watched training ever waits for it.

    python benchmarks/on_gpu.py                      # all of it, under ten minutes
    python benchmarks/on_gpu.py --only kernels --only waits
    python benchmarks/on_gpu.py --only trainings --batch 4    # where 8 × 1024 tokens do not fit
    python benchmarks/on_gpu.py --check                       # tries each part, tiny, on the CPU

kernels: how near the kernels come to the bandwidth of the memory, which a copy on the device and a
sum of one tensor show in the same run, in turn with them. Times between CUDA events, so without
what Python does around a launch.
calls: what a call of the backend takes on the training's thread, with all that Python does.
waits: whether a watched training waits for the device: torch is told to raise where an operation
synchronises, and calls that synchronise an event, a stream or the device are counted. Steps to warm
up are left out, as Triton compiles there and memory is pinned.
trainings: whole steps with each of the methods over the bare step of the same round, as
`seismograd bench` has it; the device is waited for at the ends of a turn only.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from rich.console import Console
from rich.table import Table
from shapes import GPT2_SMALL, MANY_SMALL, MLP, Shape
from torch import Tensor, nn

from seismograd.bench import cost_table
from seismograd.bench.contenders import (
    Contender,
    GradientReadout,
    Wandb,
    WatchedTraining,
    clip,
    foreach_norm,
    norm_of_each,
)
from seismograd.bench.models import LEARNING_RATE, Gpt, Workload, mlp
from seismograd.bench.timing import Spread, measure
from seismograd.measure.cuda.cuda_backend import CudaBackend
from seismograd.measure.cuda.cuda_table import CudaTable
from seismograd.measure.cuda.device_queue import CudaQueue, InterpreterQueue
from seismograd.measure.cuda.device_result import DeviceResult

WANTED_SHARE = 0.85  # of the bandwidth that the copy shows
NO_GPU = 2  # exit code
SMALL_SHAPES: list[Shape] = [(30, 40), (40,), (3, 700)]


@dataclass(frozen=True)
class Scale:
    """Where it runs, and how much of it."""

    device: torch.device
    shapes: dict[str, list[Shape]]  # of gradients, by the name of the model
    repetitions: int
    warm_steps: int
    steps: int  # that must not wait
    gpt: dict[str, int]
    tokens: int  # of a sequence
    batch: int
    sizes: tuple[float, float]  # `Workload.size` of the MLP and the GPT: how many rounds

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"


def whole(batch: int) -> Scale:
    return Scale(
        device=torch.device("cuda", torch.cuda.current_device()),
        shapes={"MLP": MLP, "500 × Linear(64)": MANY_SMALL, "GPT-2 small": GPT2_SMALL},
        repetitions=31,
        warm_steps=500,  # until as many rows are under way as there will be
        steps=2000,
        gpt={"width": 768, "num_layers": 12, "vocabulary": 50257, "context": 1024},
        tokens=1024,
        batch=batch,
        sizes=(1.0, 0.4),
    )


def tiny() -> Scale:
    return Scale(
        device=torch.device("cpu"),
        shapes={"tiny": SMALL_SHAPES},
        repetitions=2,
        warm_steps=5,
        steps=5,
        gpt={"width": 64, "num_layers": 1, "vocabulary": 50, "context": 8},
        tokens=8,
        batch=2,
        sizes=(0.1, 0.1),
    )


def load_kernels() -> Any:
    return importlib.import_module("seismograd.measure.cuda.triton_kernel")


def gradients(shapes: Sequence[Shape], dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    generator = torch.Generator(device).manual_seed(0)
    return [
        torch.randn(shape, generator=generator, device=device).mul_(1e-3).to(dtype)
        for shape in shapes
    ]


def interleaved(calls: dict[str, Callable[[], object]], scale: Scale) -> dict[str, Spread]:
    """Milliseconds on the device of each call, in turn with all others."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    marks: list[tuple[str, Any, Any]] = []
    for call in calls.values():
        call()
    for repetition in range(scale.repetitions):
        names = list(calls)
        turn = repetition % len(names)
        for name in names[turn:] + names[:turn]:
            if scale.on_gpu:
                began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                began.record()
                calls[name]()
                ended.record()
                marks.append((name, began, ended))
            else:
                before = time.perf_counter()
                calls[name]()
                times[name].append(1e3 * (time.perf_counter() - before))
        if scale.on_gpu:
            torch.cuda.synchronize()
    for name, began, ended in marks:
        times[name].append(began.elapsed_time(ended))
    return {name: Spread.of(taken) for name, taken in times.items()}


def kernels(scale: Scale, console: Console) -> None:
    """The share of the memory's bandwidth."""
    model = list(scale.shapes)[-1]
    table = Table(title=f"kernels: gradients of {model}", title_justify="left")
    for column in ("", "ms", "GB/s", "of the copy's GB/s", "wanted"):
        table.add_column(column, justify="left" if not column else "right")
    for dtype in (torch.float32, torch.bfloat16):
        tensors = gradients(scale.shapes[model], dtype, scale.device)
        num_bytes = sum(tensor.nbytes for tensor in tensors)
        queue = (CudaQueue if scale.on_gpu else InterpreterQueue)(scale.device)
        pieces = CudaTable(tensors, queue, with_rows=True)
        result = DeviceResult(len(tensors), queue, pieces.order)
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        into = torch.empty_like(flat)

        def every_time(pieces=pieces, tensors=tensors, result=result) -> None:
            pieces.measure(load_kernels(), tensors, result.numbers)

        def sampled(pieces=pieces, tensors=tensors, result=result) -> None:
            pieces.measure(load_kernels(), tensors, result.numbers, result.sampled)

        copy = "copy on the device (read and written)"
        # In this order: a sample forgets which rows were alive, so that the next call marks them.
        calls: dict[str, Callable[[], object]] = {
            copy: lambda into=into, flat=flat: into.copy_(flat),
            "torch.sum of one tensor": lambda flat=flat: flat.sum(),
            "torch._foreach_norm": lambda tensors=tensors: torch._foreach_norm(tensors),
            "kernels, the first time after a sample": every_time,
            "kernels": lambda every_time=every_time: every_time(),
            "kernels, with histogram": sampled,
        }
        times = interleaved(calls, scale)
        moved = {name: 2 * num_bytes if name == copy else num_bytes for name in times}
        speed = {name: moved[name] / taken.median / 1e6 for name, taken in times.items()}
        for name, taken in times.items():
            table.add_row(
                f"{str(dtype).removeprefix('torch.')}: {name}",
                f"{taken.median:.3f} ({taken.low:.3f} … {taken.high:.3f})",
                f"{speed[name]:.0f}",
                f"{speed[name] / speed[copy]:.0%}",
                f"≥ {WANTED_SHARE:.0%}" if name == "kernels" else "",
            )
    console.print(table)


def calls(scale: Scale, console: Console) -> None:
    """What a call takes on the training's thread: launching, and taking the numbers."""
    table = Table(
        title="calls: µs on the training's thread, medians (quartiles)", title_justify="left"
    )
    for column in ("", "tensors", "as before", "all pointers changed", "sampled"):
        table.add_column(column, justify="left" if not column else "right")
    queue_of: Any = CudaQueue if scale.on_gpu else InterpreterQueue
    for model, shapes in scale.shapes.items():
        backend = CudaBackend(load_kernels, queue_of, scale.device.type)
        sets = [gradients(shapes, torch.float32, scale.device) for _ in range(2)]
        loss = torch.zeros((), device=scale.device)
        keys = tuple(range(len(shapes)))

        def taken(
            which: Callable[[int], int],
            sample: bool,
            backend=backend,
            sets=sets,
            loss=loss,
            keys=keys,
        ) -> str:
            times: list[float] = []
            for repetition in range(scale.repetitions + 3):
                tensors = sets[which(repetition)]
                began = time.perf_counter()
                measured = backend.measure(tensors, tensors, keys, [loss], sample)
                times.append(1e6 * (time.perf_counter() - began))
                if scale.on_gpu:
                    torch.cuda.synchronize()
                began = time.perf_counter()
                if measured.pending is not None:
                    measured.pending.finish()
                times[-1] += 1e6 * (time.perf_counter() - began)
            spread = Spread.of(times[3:])
            return f"{spread.median:.0f} ({spread.low:.0f} … {spread.high:.0f})"

        # the first of each allocates and compiles
        table.add_row(
            model,
            str(len(shapes)),
            taken(lambda _: 0, sample=False),
            taken(lambda number: number % 2, sample=False),
            taken(lambda _: 0, sample=True),
        )
    console.print(table)


@contextmanager
def counted_waits(found: list[str]) -> Iterator[None]:
    """Note each call that synchronises an event, a stream or a device."""

    def noting(function: Callable[..., object], name: str) -> Callable[..., object]:
        def call(*arguments: Any, **options: Any) -> object:
            found.append(name)
            return function(*arguments, **options)

        return call

    with ExitStack() as patched:
        for owner, name in (
            (torch.cuda.Event, "synchronize"),
            (torch.cuda.Stream, "synchronize"),
            (torch.cuda, "synchronize"),
        ):
            function = noting(getattr(owner, name), f"{owner.__name__}.{name}")
            patched.enter_context(mock.patch.object(owner, name, function))
        yield


def waits(scale: Scale, console: Console) -> None:
    """Whether a watched training synchronises."""
    for level in ("light", "normal", "deep"):
        workload = mlp_on(scale)
        found: list[str] = []
        with tempfile.TemporaryDirectory() as folder:
            watched = WatchedTraining(workload, level, Path(folder))
            watched.begin()

            def train(num_steps: int, workload: Workload = workload) -> None:
                for _ in range(num_steps):
                    workload.optimizer.zero_grad()
                    workload.loss().backward()
                    workload.optimizer.step()

            train(scale.warm_steps)
            if scale.on_gpu:
                torch.cuda.synchronize()
                torch.cuda.set_sync_debug_mode("error")
            try:
                with counted_waits(found):
                    train(scale.steps)
            finally:
                if scale.on_gpu:
                    torch.cuda.set_sync_debug_mode("default")
            watched.end()
            watched.close()
            failures = [note.message.render() for note in watched.failures]
        console.print(
            f"waits, level {level}: {scale.steps} steps of the MLP, "
            f"{len(failures)} operations that synchronise, {len(found)} calls that wait"
            + ("" if not found else f" ({', '.join(sorted(set(found)))})")
        )
        for failure in failures:
            console.print(f"  {failure}")


def mlp_on(scale: Scale, size: float = 1.0) -> Workload:
    with scale.device:
        made = mlp()
    return Workload(made.name, made.model, made.optimizer, made.loss, size)


def gpt_on(scale: Scale, size: float) -> Workload:
    """GPT-2 small, in bfloat16 by autocast, on random tokens."""
    with scale.device:
        model = Gpt(**scale.gpt)
        tokens = torch.randint(0, scale.gpt["vocabulary"], (scale.batch, scale.tokens + 1))
    inputs, targets = tokens[:, :-1], tokens[:, 1:].flatten()

    def loss() -> Tensor:
        with torch.autocast(scale.device.type, torch.bfloat16):
            scores = model(inputs)
        return nn.functional.cross_entropy(scores.flatten(0, 1).float(), targets)

    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=scale.on_gpu)
    num = sum(parameter.numel() for parameter in model.parameters())
    return Workload(
        f"GPT of {num / 1e6:.0f} M, bf16, {scale.batch} × {scale.tokens} tokens",
        model,
        optimizer,
        loss,
        size,
    )


def beside(workload: Workload, closing: ExitStack) -> tuple[list[Contender], list[str]]:
    """The bare step, ours, and those of others that do not bring the gradients to the host."""
    folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
    made: list[Contender] = [Contender(workload)]
    made += [WatchedTraining(workload, level, folder) for level in ("light", "normal", "deep")]
    made += [
        GradientReadout(workload, name, function)
        for name, function in (
            ("norm().item() of each", norm_of_each),
            ("_foreach_norm", foreach_norm),
            ("clip_grad_norm_", clip),
        )
    ]
    failed = [] if importlib.util.find_spec("wandb") else ["wandb.watch: wandb is not installed"]
    if not failed:
        try:
            made.append(Wandb(workload, folder))
        except Exception as error:
            failed.append(f"wandb.watch: {type(error).__name__}: {error}")
    for each in made:
        closing.callback(each.close)
    return made, failed


def trainings(scale: Scale, console: Console) -> None:
    """Whole steps, with each method."""
    mlp_size, gpt_size = scale.sizes
    for workload in (mlp_on(scale, mlp_size), gpt_on(scale, gpt_size)):
        console.print(cost_table.table([measure(workload, False, lambda *_: None, beside)]))


PARTS: dict[str, Callable[[Scale, Console], None]] = {
    "kernels": kernels,
    "calls": calls,
    "waits": waits,
    "trainings": trainings,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=tuple(PARTS), action="append")
    parser.add_argument("--batch", type=int, default=8, help="sequences, of the GPT")
    parser.add_argument("--check", action="store_true", help="try every part tiny on the CPU")
    options = parser.parse_args()
    console = Console(file=sys.stdout, width=120, highlight=False, markup=False)
    if options.check:
        os.environ["TRITON_INTERPRET"] = "1"
        scale = tiny()
        console.print("a check of this program on the CPU: its figures say nothing")
    elif torch.cuda.is_available():
        scale = whole(options.batch)
        console.print(
            f"{torch.cuda.get_device_name(scale.device)}, torch {torch.__version__}, "
            f"CUDA {torch.version.cuda}, Triton {importlib.import_module('triton').__version__}"
        )
    else:
        console.print("no CUDA GPU here: nothing was measured (--check tries the program itself)")
        raise SystemExit(NO_GPU)
    torch.manual_seed(0)
    began = time.perf_counter()
    for name in options.only or PARTS:
        PARTS[name](scale, console)
        console.print(f"[{name}: {time.perf_counter() - began:.0f} s so far]\n")


if __name__ == "__main__":
    main()
