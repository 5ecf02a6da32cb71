"""SG114 on classifiers whose first loss is far above that of a guess, and on those that begin as
they should.
"""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import seismograd  # noqa: E402
from seismograd.schema import Finding  # noqa: E402

PROGRAM = """
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
{setup}
optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
for step in range({steps}):
    {batch}
    optimizer.zero_grad()
    loss = {loss}
    loss.backward()
    optimizer.step()
"""
MODEL = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
wanted = torch.randn(20, 10)
"""
BATCH = "x = torch.randn(32, 20); y = (x @ wanted).argmax(1)"
LOSS = "F.cross_entropy(model(x), y)"
LARGE_HEAD = MODEL + "nn.init.normal_(model[2].weight, std=5)"
SOFT = "0.9 * F.one_hot(y, 10) + 0.01"

TIED = """
class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.norm = nn.Embedding(50, 64), nn.LayerNorm(64)
        self.body, self.out = nn.Linear(64, 64), nn.Linear(64, 50, bias=False)
        {std}
        self.out.weight = self.table.weight

    def forward(self, x):
        return self.out(self.norm(self.body(self.table(x))))

model = Tied()
"""
TOKENS = "x = torch.randint(0, 50, (8, 12)); y = (3 * x + 1) % 50"
TOKEN_LOSS = "F.cross_entropy(model(x).transpose(1, 2), y)"

GRAPH = """
adjacency = (torch.rand(200, 200) < 0.05).float()
adjacency = (adjacency + adjacency.T > 0).float() + torch.eye(200)
{divided}
x, y = torch.randn(200, 16), torch.randint(0, 4, (200,))

class Graph(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(16, 32), nn.Linear(32, 4)])

    def forward(self, x):
        x = (adjacency @ self.layers[0](x)).relu()
        return adjacency @ self.layers[1](x)

model = Graph()
for layer in model.layers:
    nn.init.xavier_uniform_(layer.weight)
"""

BYTES = "x = torch.randint(0, 256, (32, 20)).float(); y = (x @ wanted).argmax(1)"

# setup, batch, loss, what the cause says, the parameter
HIGH = {
    "tied embedding": (TIED.format(std=""), TOKENS, TOKEN_LOSS, "at once", "table.weight"),
    "bytes": (MODEL, BYTES, LOSS, "the inputs of the first layer are large", "2.weight"),
    "sums over neighbours": (
        GRAPH.format(divided=""),
        "pass",
        LOSS,
        "the signal grows on its way",
        "layers.1.weight",
    ),
    "last layer": (LARGE_HEAD, BATCH, LOSS, "weights of the last layer are large", "2.weight"),
    "large sums of rows": (
        "model = nn.Sequential(nn.EmbeddingBag(100, 64, mode='sum'), nn.Linear(64, 5))",
        "x = torch.randint(0, 100, (32, 200)); y = x[:, 0] % 5",
        LOSS,
        "what goes into the last layer",
        "1.weight",
    ),
}
# in which form the loss is does not matter
FORMS = {
    "sum": "F.cross_entropy(model(x), y, reduction='sum')",
    "class weights": "F.cross_entropy(model(x), y, weight=torch.rand(10) + 0.5)",
    "label smoothing": "F.cross_entropy(model(x), y, label_smoothing=0.1)",
    "soft targets": f"F.cross_entropy(model(x), {SOFT})",
    "of the logarithms": "F.nll_loss(F.log_softmax(model(x), 1), y)",
    "ignored": "F.cross_entropy(model(x), torch.where(torch.arange(32) < 20, -100, y))",
    "shared out": "F.cross_entropy(model(x), y) / 8",
}
COSINES = """
class Margins(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.weight = nn.Linear(20, 16), nn.Parameter(torch.randn(10, 16))

    def forward(self, x):
        return 64 * (F.normalize(self.body(x)) @ F.normalize(self.weight).T)

model, wanted = Margins(), torch.randn(20, 10)
"""
HEALTHY = {
    "as torch begins": (MODEL, BATCH, LOSS),
    "orthogonal": (
        MODEL + "for each in (0, 2): nn.init.orthogonal_(model[each].weight, 2**0.5)",
        BATCH,
        LOSS,
    ),
    "a sum": (MODEL, BATCH, FORMS["sum"]),
    "smoothed": (MODEL, BATCH, FORMS["label smoothing"]),
    "one sample": (MODEL, BATCH.replace("32", "1"), LOSS),
    "a few bytes, divided": (MODEL, BYTES + "; x = x / 255", LOSS),
    "tied and small": (
        TIED.format(std="nn.init.normal_(self.table.weight, std=0.02)"),
        TOKENS,
        TOKEN_LOSS,
    ),
    "means over neighbours": (
        GRAPH.format(divided="adjacency = adjacency / adjacency.sum(1, keepdim=True)"),
        "pass",
        LOSS,
    ),
    "loaded": (LARGE_HEAD + "\nmodel.load_state_dict(model.state_dict())", BATCH, LOSS),
    "scaled cosines": (COSINES, BATCH, LOSS),
    "masked": (
        LARGE_HEAD,
        BATCH,
        "F.cross_entropy(model(x).masked_fill(torch.arange(10) == 3, -1e4), y)",
    ),
    "regression": (LARGE_HEAD, BATCH, "F.mse_loss(model(x), x @ wanted)"),
    "all ignored": (LARGE_HEAD, BATCH, "F.cross_entropy(model(x), y * 0 - 100, reduction='sum')"),
    "another thing before": (
        LARGE_HEAD,
        BATCH,
        "F.mse_loss(model(x), x @ wanted) if step < 5 else F.cross_entropy(model(x), y)",
    ),
}


def judged(path: Path, setup: str, batch: str, loss: str) -> Finding | None:
    file = path / "train.py"
    file.write_text(PROGRAM.format(setup=setup, batch=batch, loss=loss, steps=12))
    with seismograd.watch(out=path / "run") as recording:
        exec(compile(file.read_text(), str(file), "exec"), {"__name__": "train"})
    return next((each for each in recording.findings if each.code == "SG114"), None)


@pytest.mark.parametrize(("setup", "batch", "loss", "cause", "name"), HIGH.values(), ids=HIGH)
def test_what_makes_the_first_loss_high_is_named(
    setup: str, batch: str, loss: str, cause: str, name: str, tmp_path: Path
) -> None:
    finding = judged(tmp_path, setup, batch, loss)
    assert finding is not None
    assert finding.severity == "warning"
    assert cause in finding.cause.render()
    assert finding.parameters == (name,)
    assert finding.first_step == 0
    assert finding.seen_only
    assert finding.where.startswith(str(tmp_path))


@pytest.mark.parametrize("loss", FORMS.values(), ids=FORMS)
def test_the_form_of_the_loss_does_not_matter(loss: str, tmp_path: Path) -> None:
    finding = judged(tmp_path, LARGE_HEAD, BATCH, loss)
    assert finding is not None
    assert "among 10 classes gives 2.3" in finding.cause.render()
    assert finding.excerpt == "nn.init.normal_(model[2].weight, std=0.02)"


@pytest.mark.parametrize(("setup", "batch", "loss"), HEALTHY.values(), ids=HEALTHY)
def test_a_training_that_begins_as_it_should_is_left_alone(
    setup: str, batch: str, loss: str, tmp_path: Path
) -> None:
    assert judged(tmp_path, setup, batch, loss) is None
