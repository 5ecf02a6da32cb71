"""The example is a plain PyTorch program on real digits."""

from __future__ import annotations

import ast
import gzip
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLE = Path(__file__).parent.parent / "examples" / "small_net.py"
EPOCH = re.compile(r"epoch (\d+), loss=(\d+\.\d{4})")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *arguments])
    runpy.run_path(str(EXAMPLE), run_name="__main__")


def idx(array: np.ndarray) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim])
        + np.array(array.shape, ">i4").tobytes()
        + array.astype(np.uint8).tobytes()
    )


def write_digits(folder: Path, compress: bool = False) -> Path:
    """A data set of 20 and 10 random images in the four files of MNIST."""
    random = np.random.default_rng(0)
    for part, count in (("train", 20), ("t10k", 10)):
        for kind, array in (
            ("images-idx3", random.integers(256, size=(count, 28, 28))),
            ("labels-idx1", np.arange(count) % 10),
        ):
            content = idx(array)
            name = f"{part}-{kind}-ubyte"
            (folder / (f"{name}.gz" if compress else name)).write_bytes(
                gzip.compress(content) if compress else content
            )
    return folder


def test_it_learns_to_read_the_shipped_digits() -> None:
    ran = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, check=True)
    *epochs, last = ran.stdout.splitlines()
    losses = [float(match[2]) for line in epochs if (match := EPOCH.fullmatch(line))]
    assert len(losses) == len(epochs) == 3
    assert losses == sorted(losses, reverse=True)
    share = re.fullmatch(r"(\d+\.\d)% of 1000 other digits read correctly", last)
    assert share
    assert float(share[1]) > 80
    assert ran.stderr == ""


def test_it_does_not_know_seismograd() -> None:
    imports = [
        node
        for node in ast.walk(ast.parse(EXAMPLE.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert imports
    assert not any("seismograd" in ast.unparse(node) for node in imports)


@pytest.mark.parametrize("compress", [False, True])
def test_it_reads_the_four_files_of_a_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    compress: bool,
) -> None:
    run(
        monkeypatch,
        "--data",
        str(write_digits(tmp_path, compress)),
        "--epochs",
        "2",
        "--lr",
        "0.01",
        "--batch-size",
        "7",
    )
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[-1].endswith("of 10 other digits read correctly")


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        (
            "train-images-idx3-ubyte",
            None,
            "has neither train-images-idx3-ubyte nor train-images-idx3-ubyte.gz",
        ),
        ("t10k-labels-idx1-ubyte", b"", "is not an IDX file of bytes"),
        ("t10k-labels-idx1-ubyte", idx(np.zeros(10))[:-1], "buffer is smaller than requested size"),
        (
            "t10k-labels-idx1-ubyte",
            idx(np.zeros(9)),
            "t10k has (10, 28, 28) images and (9,) labels",
        ),
        (
            "train-images-idx3-ubyte",
            idx(np.zeros((20, 4, 4))),
            "train has (20, 4, 4) images and (20,) labels",
        ),
    ],
)
def test_it_says_what_is_wrong_with_a_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes | None,
    complaint: str,
) -> None:
    path = write_digits(tmp_path) / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "--data", str(tmp_path))
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err.splitlines()[-1]


def test_it_says_so_when_a_compressed_file_is_torn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_digits(tmp_path, compress=True) / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SystemExit):
        run(monkeypatch, "--data", str(tmp_path))
    assert "cannot read digits: " in capsys.readouterr().err.splitlines()[-1]


def test_the_broken_and_the_mended_network_differ_in_their_layers_only() -> None:
    broken, mended = (
        ast.dump(ast.parse((EXAMPLE.parent / name).read_text(encoding="utf-8")))
        for name in ("broken_net.py", "mended_net.py")
    )
    assert broken != mended
    code = [
        (EXAMPLE.parent / name).read_text(encoding="utf-8").split('"""')[2].splitlines()
        for name in ("broken_net.py", "mended_net.py")
    ]
    assert len(code[0]) == len(code[1])
    differing = [(a, b) for a, b in zip(*code, strict=True) if a != b]
    assert len(differing) == 1
    assert "nn.Sigmoid()" in differing[0][0]
    assert "nn.LayerNorm(32), nn.ReLU()" in differing[0][1]
