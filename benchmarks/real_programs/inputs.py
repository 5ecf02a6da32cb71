"""Small inputs for the programs, made anew and always the same, without a download."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
DIGITS = HERE.parents[1] / "src" / "seismograd" / "lab" / "data" / "mnist"
_NUM_TOKENS = 2000
_VOCABULARY = 60


def driver(name: str) -> Callable[[Path], None]:
    """A driver of ours, next to which it finds nothing else."""

    def prepare(start: Path) -> None:
        shutil.copy(HERE / "drivers" / f"{name}.py", start)

    return prepare


def characters(start: Path) -> None:
    """The README as characters, where nanoGPT looks for Shakespeare."""
    folder = start / "data" / "shakespeare_char"
    (folder / "input.txt").write_bytes((start / "README.md").read_bytes())
    subprocess.run([sys.executable, "prepare.py"], cwd=folder, check=True, capture_output=True)


def digits(start: Path) -> None:
    """2,000 digits to train on and 500 to test on, where torchvision looks for MNIST."""
    folder = start.parent / "data" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for what, bytes_each, header in (("images-idx3", 784, 16), ("labels-idx1", 1, 8)):
        read = gzip.decompress((DIGITS / f"t10k-{what}-ubyte.gz").read_bytes())
        for part, first, num in (("train", 0, 2000), ("t10k", 2000, 500)):
            body = read[header + first * bytes_each : header + (first + num) * bytes_each]
            head = read[:4] + num.to_bytes(4, "big") + read[8:header]
            (folder / f"{part}-{what}-ubyte").write_bytes(head + body)
    (start / "results").mkdir(exist_ok=True)


def words(start: Path) -> None:
    """A text of 60 words, where the word language model looks for WikiText."""
    folder, draw = start / "data" / "wikitext-2", random.Random(0)
    for part, num in (("train", _NUM_TOKENS), ("valid", 300), ("test", 300)):
        lines = [_sentence(draw, 9) for _ in range(num // 10)]  # ten tokens, with that of the end
        (folder / f"{part}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def num_batches(batch_size: int, bptt: int) -> int:
    """How many batches the word language model makes of these words."""
    return -(-(_NUM_TOKENS // batch_size - 1) // bptt)


def waves(start: Path) -> None:
    """A few short sine waves, as `generate_sine_wave.py` makes many long ones."""
    import numpy as np
    import torch

    times = np.arange(100) + np.random.default_rng(0).integers(-80, 80, (8, 1))
    torch.save(np.sin(times / 20.0).astype("float64"), start / "traindata.pt")


def pictures(start: Path) -> None:
    """Sixteen pictures and a small U-Net."""
    import numpy as np
    from PIL import Image

    folder, draw = start / "pictures", np.random.default_rng(0)
    folder.mkdir()
    for number in range(16):
        pixels = draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    unet = {
        "_class_name": "UNet2DModel",
        "sample_size": 16,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 4,
        "block_out_channels": [8, 16],
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    }
    (start / "unet.json").write_text(json.dumps(unet), encoding="utf-8")


def texts(start: Path) -> None:
    """A tiny language model with random weights, and texts."""
    _language_model(start / "model")
    draw = random.Random(0)
    _lines(start / "texts", [{"text": _sentence(draw, 12)} for _ in range(48)])


def pairs(start: Path) -> None:
    """The same model, and pairs of a better and a worse answer."""
    _language_model(start / "model")
    draw = random.Random(0)
    answers = ("prompt", "chosen", "rejected")
    rows = [{answer: _sentence(draw, 12) for answer in answers} for _ in range(32)]
    _lines(start / "pairs", rows)


def _sentence(draw: random.Random, num_words: int) -> str:
    return " ".join(f"w{draw.randrange(_VOCABULARY)}" for _ in range(num_words))


def _lines(folder: Path, rows: list[dict[str, str]]) -> None:
    folder.mkdir()
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "train.jsonl").write_text(lines, encoding="utf-8")


def _language_model(folder: Path) -> None:
    """In a process of its own: libraries that are imported here would be known to nobody else."""
    script = HERE / "tiny_language_model.py"
    subprocess.run([sys.executable, script, folder], check=True, capture_output=True)
