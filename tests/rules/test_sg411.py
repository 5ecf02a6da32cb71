"""SG411 on seeds that are set before each step, and on seeds that do no harm."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent

import pytest

torch = pytest.importorskip("torch")

import seismograd  # noqa: E402
from seismograd.capture.loop.seed_log import SEEDS  # noqa: E402
from seismograd.capture.probes import reseeding  # noqa: E402
from seismograd.capture.steady.extension import without_extension  # noqa: E402
from seismograd.schema import Finding  # noqa: E402

PROGRAM = """
import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

random.seed(0)
torch.manual_seed({top})
x = torch.randn(64, 6)
y = (x[:, 0] > 0).long()
net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout({dropout}), nn.Linear(8, 2))
optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
loader = DataLoader(TensorDataset(x, y), {batch}, shuffle=True)
# functions
{functions}


def train(xb, yb):
    optimizer.zero_grad()
    F.cross_entropy(net(xb), yb).backward()
    optimizer.step()


for step in range({num}):
{body}
"""
USUAL = {"top": "0", "dropout": "0.0", "batch": "16", "functions": "", "num": "30"}
BATCH = "i = torch.randint(0, 64, (16,)); train(x[i], y[i])"
FAULTY = {
    "indices": {"body": f"torch.manual_seed(7)\n{BATCH}"},
    "dropout": {"dropout": "0.5", "body": "torch.manual_seed(7)\ntrain(x, y)"},
    "in a function for that": {
        "functions": "def seed_all(seed):\n    random.seed(seed)\n    torch.manual_seed(seed)",
        "body": f"seed_all(7)\n{BATCH}",
    },
    "in what makes a batch": {
        "top": "7",
        "functions": """
            def batch():
                torch.manual_seed(7)
                i = torch.randint(0, 64, (16,))
                return x[i] + 0.1 * torch.randn(16, 6), y[i]
        """,
        "body": "train(*batch())",
    },
    "in the network": {
        "functions": """
            class Noise(nn.Module):
                def forward(self, x):
                    torch.manual_seed(7)
                    return x + torch.randn_like(x)

            net = nn.Sequential(Noise(), net)
        """,
        "body": "train(x, y)",
    },
    "for each batch of a loader": {
        "dropout": "0.5",
        "num": "8",
        "body": "for batch in loader:\n    torch.manual_seed(7)\n    train(*batch)",
    },
    "one number": {
        "body": "torch.manual_seed(7)\ni = torch.randint(0, 64, (1,)); train(x[i], y[i])"
    },
    "epochs of one batch with dropout": {
        "batch": "64",
        "dropout": "0.5",
        "functions": "net.insert(0, nn.Dropout(0.1))",
        "body": "torch.manual_seed(7)\nfor batch in loader:\n    train(*batch)",
    },
    "twice": {"body": f"torch.manual_seed(7)\ntorch.manual_seed(7)\n{BATCH}"},
    "negative": {"body": f"torch.manual_seed(-7)\n{BATCH}"},
}
HEALTHY = {
    "once": {"body": BATCH},
    "nothing is drawn": {"body": "torch.manual_seed(7)\ntrain(x, y)"},
    "once per epoch": {
        "dropout": "0.5",
        "body": "torch.manual_seed(7)\nfor batch in loader:\n    train(*batch)",
    },
    "epochs of one batch": {
        "batch": "64",
        "body": "torch.manual_seed(7)\nfor batch in loader:\n    train(*batch)",
    },
    "another one each time": {"body": f"torch.manual_seed(step)\n{BATCH}"},
    "one for each sample": {
        "functions": """
            def item(i):
                torch.manual_seed(i)
                return x[i] + 0.1 * torch.randn(6)
        """,
        "body": "train(torch.stack([item(i) for i in range(64)]), y)",
    },
    "two passes with the same masks": {
        "dropout": "0.5",
        "functions": """
            def train(xb, yb):
                seed = random.randrange(10**6)
                optimizer.zero_grad()
                for sign in (1, -1):
                    torch.manual_seed(seed)
                    F.cross_entropy(net(sign * xb), yb).backward()
                optimizer.step()

            both = train
        """,
        "body": "both(x, y)",
    },
    "an optimizer for each": {
        "body": f"optimizer = torch.optim.SGD(net.parameters(), 0.1)\ntorch.manual_seed(7)\n{BATCH}"
    },
    "evaluated without gradients": {
        "top": "7",
        "functions": """
            def score():
                torch.manual_seed(7)
                with torch.no_grad():
                    return net(torch.randn(64, 6))
        """,
        "body": "train(x, y)\nscore()",
    },
    "within no_grad": {
        "top": "7",
        "body": "train(x, y)\nwith torch.no_grad():\n    torch.manual_seed(7)\n    torch.randn(99)",
    },
    "by its name": {
        "top": "7",
        "functions": "def validate():\n    torch.manual_seed(7)\n    return torch.randn(64, 6)",
        "body": "train(x, y)\nvalidate()",
    },
    "forked": {
        "top": "7",
        "body": """
            train(x, y)
            with torch.random.fork_rng():
                torch.manual_seed(7)
                torch.randn(99)
        """,
    },
    "put back": {
        "top": "7",
        "body": """
            state = torch.get_rng_state()
            torch.manual_seed(7)
            torch.randn(99)
            torch.set_rng_state(state)
            train(x, y)
        """,
    },
    "checkpointed": {
        "dropout": "0.5",
        "functions": "body, net = net, lambda x: checkpoint(body, x, use_reentrant=False)",
        "body": "train(x, y)",
    },
    "a generator of its own": {
        "body": """
            own = torch.Generator().manual_seed(7)
            i = torch.randint(0, 64, (16,), generator=own)
            train(x[i], y[i])
        """
    },
}


def findings(name: str, folder: Path, **parts: str) -> list[Finding]:
    parts = {key: dedent(text) for key, text in {**USUAL, **parts}.items()}
    parts["body"] = indent(parts["body"], "    ")
    file = folder / f"{name}.py"
    file.write_text(PROGRAM.format(**parts))
    with seismograd.watch(out=folder / "run") as recording:
        exec(compile(file.read_text(), str(file), "exec"), {"__name__": name})
    return [each for each in recording.findings if each.code == "SG411"]


@pytest.mark.parametrize("parts", FAULTY.values(), ids=FAULTY)
def test_the_same_seed_before_each_step_is_found(parts: dict[str, str], tmp_path: Path) -> None:
    (finding,) = findings("same", tmp_path, **parts)
    assert (finding.severity, finding.first_step) == ("error", 1)
    line = int(finding.where.removeprefix(str(tmp_path)).rpartition(":")[2])
    text = (tmp_path / "same.py").read_text().splitlines()[line - 1].strip()
    assert "7)" in text
    assert finding.excerpt == f"{text}  # once, before the loop"
    seed = str(2**64 - 7) if "-7" in text else "7"
    assert f"set to {seed} before each step" in finding.cause.render()


@pytest.mark.parametrize("parts", HEALTHY.values(), ids=HEALTHY)
def test_other_seeds_are_left_alone(parts: dict[str, str], tmp_path: Path) -> None:
    assert findings("healthy", tmp_path, **parts) == []


def test_it_is_followed_to_the_end(tmp_path: Path) -> None:
    (finding,) = findings("same", tmp_path, **FAULTY["indices"] | {"num": "620"})
    assert finding.last_step == 560  # the look number 64


def test_a_seed_at_the_steps_that_are_looked_at_is_left_alone(tmp_path: Path) -> None:
    body = f"if step % 10 == 0:\n    torch.manual_seed(7)\n{BATCH}"
    with without_extension():
        assert findings("healthy", tmp_path, body=body, num="200") == []


def test_a_line_that_helps_to_set_seeds_is_not_the_one_to_move(tmp_path: Path) -> None:
    (finding,) = findings("same", tmp_path, **FAULTY["in a function for that"])
    assert finding.excerpt.startswith("seed_all(7)")


class Generator:
    """One of a GPU, which is set back and from which numbers are drawn."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def initial_seed(self) -> int:
        return 7

    def get_offset(self) -> int:
        return self._offset


@pytest.mark.parametrize("offset", [0, 4])
def test_numbers_that_are_drawn_on_a_gpu_are_found(
    offset: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "default_generators", (Generator(offset),))
    monkeypatch.setattr(reseeding, "_has_cuda", lambda: True)
    found = findings("gpu", tmp_path, **HEALTHY["nothing is drawn"])
    assert len(found) == (offset > 0)


def test_nothing_of_the_program_is_kept(tmp_path: Path) -> None:
    before = torch.random._seed_custom_device, torch.set_rng_state, torch.manual_seed  # type: ignore[attr-defined]
    findings("same", tmp_path, **FAULTY["indices"])
    after = torch.random._seed_custom_device, torch.set_rng_state, torch.manual_seed  # type: ignore[attr-defined]
    assert after == before
    assert SEEDS.chain == []
