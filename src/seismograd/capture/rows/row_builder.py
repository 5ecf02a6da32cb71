"""Convert iterations to the `RowBatch` that is recorded: their readings, steps and calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seismograd.capture.loop.iteration import Iteration
from seismograd.capture.rows.row_columns import columns_of_rows
from seismograd.capture.rows.step_entries import event_entries, step_entries
from seismograd.schema import (
    Optimizer,
    RowBatch,
    Site,
    no_pairs,
    no_ranks,
)

NO_RANKS, NO_PAIRS = no_ranks(), no_pairs()


@dataclass(frozen=True, slots=True)
class RowBuilder:
    """Makes rows of iterations. `sites` and `optimizers` are those of the run; their owners append
    to them.
    """

    num_elements: int
    sites: Sequence[Site]
    optimizers: Sequence[Optimizer]

    def build(self, iterations: Sequence[Iteration]) -> RowBatch:
        """Return the rows of one of the batches of `batches_of`; numbers still on a device are
        waited for.
        """
        for iteration in iterations:
            for step in iteration.steps:
                for reading in (step.reading, step.applied):
                    if reading is not None and reading.arrival is not None:
                        reading.settle()
        parameters = iterations[0].parameters
        columns = columns_of_rows(iterations, self.num_elements)
        pairs = [
            compared.record(iteration.number)
            for iteration in iterations
            for compared in iteration.compared
        ]
        return RowBatch(
            parameters,
            step_entries(iterations, columns),
            columns.state,
            columns.values,
            np.array(columns.sample_rows, np.int64),
            columns.samples,
            event_entries(iterations),
            columns.elements,
            self.sites,
            self.optimizers,
            NO_RANKS,
            np.concatenate(pairs) if pairs else NO_PAIRS,
            columns.sketches,
        )
