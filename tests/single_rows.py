"""The rows of a batch one by one, as a test looks at them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from seismograd.schema import AnyArray, FloatArray, Parameter, RowBatch, StateArray


@dataclass(frozen=True, slots=True)
class SingleRow:
    """One iteration: the arrays of its batch without their first axis; `samples` is empty where
    nothing was sampled.
    """

    parameters: tuple[Parameter, ...]
    step: AnyArray  # 0-d, STEP_DTYPE
    state: StateArray
    values: dict[str, AnyArray]
    samples: dict[str, AnyArray]
    events: AnyArray
    elements: FloatArray
    ranks: AnyArray
    pairs: AnyArray


def single_rows(batch: RowBatch) -> Iterator[SingleRow]:
    """Yield the rows of a batch."""
    for each in batch.split(1):
        yield SingleRow(
            each.parameters,
            each.steps[0],
            each.state[0],
            {name: values[0] for name, values in each.values.items()},
            {name: values[0] for name, values in each.samples.items() if len(values)},
            each.events,
            each.elements[0],
            each.ranks,
            each.pairs,
        )


class RowList(list[SingleRow]):
    """Keeps the rows of all batches that it takes."""

    def take(self, batch: RowBatch) -> None:
        """Keep the rows of a batch."""
        self.extend(single_rows(batch))
