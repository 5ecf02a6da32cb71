"""The programs that the diagnosis is measured on, before anything runs them."""

from __future__ import annotations

import ast
from collections import Counter

import pytest

from benchmarks.truth.catalogue import BASES, FOLDER, Base
from benchmarks.truth.edit import Edited
from benchmarks.truth.mutators import MUTATORS
from benchmarks.truth.trial import program

pytest.importorskip("libcst")


@pytest.fixture(scope="module")
def mutants() -> dict[tuple[str, str], Edited]:
    found = {(m.name, b.name): m.mutate(program(b)) for m in MUTATORS for b in BASES}
    return {key: edited for key, edited in found.items() if edited is not None}


def test_the_catalogue_lists_every_program() -> None:
    assert sorted(b.name for b in BASES) == sorted(p.stem for p in FOLDER.glob("*.py"))


@pytest.mark.parametrize("base", BASES, ids=lambda b: b.name)
def test_a_program_takes_a_seed_and_says_that_it_learned(base: Base) -> None:
    source = base.path.read_text()
    ast.parse(source)
    assert '"SEED"' in source
    assert "score {" in source


def test_a_program_knows_nothing_of_seismograd() -> None:
    assert not [b.name for b in BASES if "seismograd" in b.path.read_text()]


def test_both_halves_are_large() -> None:
    assert min(Counter(b.half for b in BASES).values()) >= len(BASES) // 3


def test_mutators_have_names_of_their_own() -> None:
    assert len({m.name for m in MUTATORS}) == len(MUTATORS) >= 45


def test_each_mutator_fits_two_programs(mutants: dict[tuple[str, str], Edited]) -> None:
    fits = Counter(mutator for mutator, _ in mutants)
    assert not [m.name for m in MUTATORS if fits[m.name] < 2]


def test_a_mutant_is_another_program_that_compiles(mutants: dict[tuple[str, str], Edited]) -> None:
    for (mutator, name), edited in mutants.items():
        compile(edited.source, f"{mutator} in {name}", "exec")
        base = next(b for b in BASES if b.name == name)
        assert ast.dump(ast.parse(edited.source)) != ast.dump(ast.parse(base.path.read_text()))


def test_changed_lines_are_lines_of_the_mutant(mutants: dict[tuple[str, str], Edited]) -> None:
    for edited in mutants.values():
        assert all(1 <= line <= len(edited.source.splitlines()) for line in edited.lines)


@pytest.mark.parametrize("style", ["accelerate", "Lightning", "Trainer"])
def test_programs_of_frameworks_get_many_kinds_of_faults(
    style: str, mutants: dict[tuple[str, str], Edited]
) -> None:
    fits = Counter(name for _, name in mutants)
    assert all(fits[b.name] >= 10 for b in BASES if b.style == style)
