"""Oracles prove their fault from a real run, and find none of it in the healthy program."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("libcst")
pytest.importorskip("sklearn")

from benchmarks.truth.bench import Bench
from benchmarks.truth.catalogue import BASES
from benchmarks.truth.mutators import MUTATORS
from benchmarks.truth.trial import judge, program, proof

# One of each kind of evidence: the order of calls, the graph, weights, numbers, modes. Few of them,
# and of programs that take seconds: their traces are the time that this takes. Each time one is
# enough, beside the fault below, which goes through the trace as well.
PAIRS = (
    ("left in eval mode", "gnn"),
    *(
        pytest.param(*pair, marks=pytest.mark.extended)
        for pair in (
            ("clip after step", "mlp_plain"),
            ("mask after the square root", "gnn"),
            ("all weights one constant", "mlp_plain"),
            ("detach between layers", "gnn"),
            ("softmax before cross entropy", "gnn"),
            ("bootstrapped target with a graph", "sarsa"),
        )
    ),
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder: Path = tmp_path_factory.mktemp("truth")
    return Bench(folder, timeout_s=600)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_oracle_tells_the_mutant_from_its_base(kind: str, name: str, bench: Bench) -> None:
    base = next(b for b in BASES if b.name == name)
    mutator = next(m for m in MUTATORS if m.name == kind)
    edited = mutator.mutate(program(base))
    assert edited is not None
    healthy, faulty = bench.trace(base.path.read_text()), bench.trace(edited.source)
    assert healthy is not None
    assert faulty is not None
    assert not healthy.error
    assert not faulty.error
    assert proof(mutator, faulty, healthy) is not None
    assert proof(mutator, healthy, healthy) is None


@pytest.mark.slow
def test_a_fault_that_seismograd_has_to_name(bench: Bench) -> None:
    base = next(b for b in BASES if b.name == "gnn")
    mutator = next(m for m in MUTATORS if m.name == "zero_grad forgotten")
    edited = mutator.mutate(program(base))
    assert edited is not None
    trial = judge(bench, base, mutator, edited)
    assert (trial.outcome, trial.first, trial.culprit, trial.advice) == ("judged", True, True, True)
