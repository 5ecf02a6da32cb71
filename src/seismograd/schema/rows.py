"""Iterations on their way from the session to their readers.

Shapes: T recorded iterations, B consecutive ones in a block, S of them sampled, P parameters, W
numbers per parameter, E elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from seismograd.schema.arrays import AnyArray, FloatArray, IntArray, StateArray
from seismograd.schema.entries import no_pairs, no_ranks


@dataclass(frozen=True, slots=True)
class Parameter:
    """One column of the record.

    `depth` is its position in the order of execution (0 is nearest the input), `None` when the
    graph did not show it. `module` is the class name of the module that holds it, `optimizer` and
    `group` index what updates it. `activation` is the function that its output goes through next
    (`"relu"`, `"sigmoid"`, as the graph calls it), empty when none was seen. `compute_dtype` is the
    dtype of the operation that reads it, where autocast chose another one. `registered`: a module
    has it among its parameters; otherwise only the graph of a loss showed it. `branch`: weights of
    different branches lie on parallel paths, as those of an actor and a critic do; what precedes or
    follows both belongs to the first. `frozen_in_name`: `requires_grad = False` was set on a module
    that holds it, which has no effect. `root` numbers the outermost modules: which of them holds
    it, -1 for none, or where it is not known.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    numel: int
    module: str = ""
    aliases: tuple[str, ...] = ()
    depth: int | None = None
    trainable: bool = True
    optimizer: int | None = None
    group: int | None = None
    activation: str = ""
    compute_dtype: str = ""
    registered: bool = True
    frozen_in_name: bool = False
    branch: int = 0
    root: int = -1


@dataclass(frozen=True, slots=True)
class Optimizer:
    """An optimizer that stepped: its index in the run, its class, the name it has in the script
    when one was found.
    """

    index: int
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Site:
    """A place in the user's code. `label` is the script's name for the loss that is backpropagated
    there, if it gives one.
    """

    file: str
    line: int
    function: str
    label: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Consecutive iterations with the same parameters: what sinks and rules read.

    `values` holds each statistic of every iteration  # (B, P); `samples` the sampled ones  # (S, P)
    or (S, P, W), at the iterations whose row numbers within the block are `sample_rows`  # (S,). A
    number is meaningful only where `state`  # (B, P) is not NOT_MEASURED or ABSENT. `events` are
    those of these iterations in order; `sites` and `optimizers` are what their indices point into.
    """

    parameters: tuple[Parameter, ...]
    steps: AnyArray
    state: StateArray
    values: Mapping[str, AnyArray]
    sample_rows: IntArray
    samples: Mapping[str, AnyArray]
    events: AnyArray
    elements: FloatArray  # (B, E); NaN: not measured
    sites: Sequence[Site]
    optimizers: Sequence[Optimizer]
    # RANK_DTYPE, in the order of iterations; empty for a single process
    ranks: AnyArray = field(default_factory=no_ranks)
    pairs: AnyArray = field(default_factory=no_pairs)  # PAIR_DTYPE, in the order of iterations

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True, slots=True)
class Row:
    """One iteration as the session hands it over: the arrays of a `RowBatch` without their first axis.

    `samples` is empty when the sampled statistics were not measured in this iteration.
    """

    parameters: tuple[Parameter, ...]
    step: AnyArray  # 0-d, STEP_DTYPE
    state: StateArray
    values: Mapping[str, AnyArray]
    samples: Mapping[str, AnyArray]
    events: AnyArray
    elements: FloatArray
    ranks: AnyArray = field(default_factory=no_ranks)
    pairs: AnyArray = field(default_factory=no_pairs)


@dataclass(frozen=True, slots=True)
class Rows:
    """Several iterations with the same parameters, as the session hands them over together: the
    arrays of a `RowBatch`, as of `Row`s.
    """

    parameters: tuple[Parameter, ...]
    steps: AnyArray  # (B,), STEP_DTYPE
    state: StateArray  # (B, P)
    values: Mapping[str, AnyArray]  # (B, P) each
    sample_rows: IntArray  # (S,)
    samples: Mapping[str, AnyArray]  # (S, P) or (S, P, W); empty where none was sampled
    events: AnyArray
    elements: FloatArray  # (B, E)
    ranks: AnyArray = field(default_factory=no_ranks)
    pairs: AnyArray = field(default_factory=no_pairs)

    def __len__(self) -> int:
        return len(self.steps)

    @classmethod
    def of(cls, row: Row) -> Rows:
        """Return the rows of a single one."""
        return cls(
            row.parameters,
            row.step.reshape(1),
            row.state[None],
            {name: value[None] for name, value in row.values.items()},
            np.zeros(1 if row.samples else 0, np.int64),
            {name: value[None] for name, value in row.samples.items()},
            row.events,
            row.elements[None],
            row.ranks,
            row.pairs,
        )
