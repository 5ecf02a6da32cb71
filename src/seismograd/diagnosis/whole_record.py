"""Judge a whole record, as the rules judged the training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge

from seismograd.diagnosis.engine import Diagnosis
from seismograd.diagnosis.rule import Rule
from seismograd.rules import RULES
from seismograd.schema import (
    Fact,
    FactKind,
    Note,
    RowBatch,
    SampleBatch,
    SampleKind,
)


def diagnose(
    blocks: Iterable[RowBatch],
    rules: Sequence[Callable[[], Rule]] = RULES,
    notes: Iterable[Note] = (),
    facts: Iterable[Fact] = (),
    fact_kinds: Iterable[str] = tuple(FactKind),
    samples: Callable[[SampleKind], Iterable[SampleBatch]] = lambda _: (),
) -> Diagnosis:
    """Judge a whole record; of `samples` only the kinds are read that a rule asks for."""
    diagnosis = Diagnosis(rules, fact_kinds)
    read_record(diagnosis, blocks, notes, facts, samples)
    diagnosis.close()
    return diagnosis


def read_record(
    diagnosis: Diagnosis,
    blocks: Iterable[RowBatch],
    notes: Iterable[Note],
    facts: Iterable[Fact],
    samples: Callable[[SampleKind], Iterable[SampleBatch]],
) -> None:
    """Have the rules read a record, which may go on."""
    for fact in facts:
        diagnosis.learn(fact)
    kinds = sorted(diagnosis.sample_kinds)
    in_order = _Ahead(merge(*(samples(kind) for kind in kinds), key=lambda each: each.step))
    for block in blocks:
        if len(block):
            for batch in in_order.up_to(int(block.steps["iteration"][-1])):
                diagnosis.sampled(batch)
        diagnosis.observe(block)
    for batch in in_order.rest():
        diagnosis.sampled(batch)
    for note in notes:
        diagnosis.note(note)


class _Ahead:
    """Samples in the order of their steps, read as they are needed."""

    def __init__(self, batches: Iterator[SampleBatch]) -> None:
        self._batches, self._next = batches, next(batches, None)

    def up_to(self, step: int) -> Iterator[SampleBatch]:
        """Yield those up to this step."""
        while self._next is not None and self._next.step <= step:
            batch, self._next = self._next, next(self._batches, None)
            yield batch

    def rest(self) -> Iterator[SampleBatch]:
        """Yield all others."""
        while self._next is not None:
            batch, self._next = self._next, next(self._batches, None)
            yield batch
