"""The backend that measures on the CPU with the kernel, and leaves what the kernel cannot read to
the reference.

Shapes: n gradients, m of them read by the kernel; W numbers per gradient.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seismograd.measure.backend import MeasuredAgain, Measurement, SampledAgain
from seismograd.measure.native import tensor_reads
from seismograd.measure.native.active_rows import ActiveRows, Memory
from seismograd.measure.native.library import (
    BEST_INSTRUCTION_SET,
    ENTRY_WORDS,
    EXPONENTS,
    INSTRUCTION_SETS,
    NUMBERS,
    REPORT_ROWS,
    WANTED,
    address_of,
    address_of_function,
)
from seismograd.measure.native.memory_layout import MemoryLayout
from seismograd.measure.native.native_table import NOT_KNOWN, NativeTable, make_table, refill
from seismograd.measure.number_table import NumberTable, are_ordinary
from seismograd.measure.reference import ReferenceBackend
from seismograd.schema import HISTOGRAM_BINS, MEASURED_EVERY_TIME, FloatArray, StatisticKind
from seismograd.tensors.isolation import without_user_modes

NORM, SUM, DEAD_ROWS = NUMBERS.index("norm"), NUMBERS.index("sum"), NUMBERS.index("dead_rows")
NONFINITE = NUMBERS.index("nonfinite")
# where the kernel's numbers have those of the record; it calls counts by their names
PLACES = {
    each.name: NUMBERS.index(each.name if each.kind is StatisticKind.COUNT else each.kind)
    for each in MEASURED_EVERY_TIME
}
NO_SAMPLES: dict[str, FloatArray] = {}
NO_SCALARS: FloatArray = np.empty(0)
NONE_LENT: frozenset[int] = frozenset()
# one for each set of parameters that get gradients together; where sets are drawn at random, the
# old ones go
MOST_TABLES = 64


@dataclass(slots=True)
class KernelTables:
    """The tables of one sequence of parameters; the weights' table covers those whose gradients the
    kernel reads.
    """

    keys: tuple[int, ...]
    gradients: NativeTable
    weights: NativeTable | None = None


class NativeBackend:
    """Measures with the kernel; see `backend.MeasuringBackend`.

    Tensors that the kernel cannot read (sparse, complex, with gaps, of a subclass, on another
    device) go to the reference, each by itself.

    Args:
        library: the kernel, from `library.load`.
        instruction_set: one of `INSTRUCTION_SETS` instead of the best that the machine has.
        remembers_rows: remember which rows had a gradient since the last sample. Without it only
            tables outlive a call, so keys need not be a parameter's own, and `dead_rows` is
            meaningless.

    Raises:
        ValueError: the machine does not have that instruction set.
    """

    name = "native"

    def __init__(
        self,
        library: ctypes.CDLL,
        instruction_set: str | None = None,
        remembers_rows: bool = True,
    ) -> None:
        self._measure = library.seismograd_measure
        # for `tensor_reads`, without ctypes
        self._measure_at = address_of_function(self._measure)
        self._instruction_set = (
            BEST_INSTRUCTION_SET
            if instruction_set is None
            else INSTRUCTION_SETS.index(instruction_set)
        )
        if instruction_set is not None and not library.seismograd_has(self._instruction_set):
            raise ValueError(f"this machine or this build has no {instruction_set}")
        self._reference = ReferenceBackend()
        self._rows = ActiveRows() if remembers_rows else None
        # keys whose rows the reference remembers until the next sample
        self._with_reference: set[int] = set()
        self._tables: dict[tuple[int, ...], KernelTables] = {}
        self._last: KernelTables | None = None  # the most recent look-up

    @property
    def kernel(self) -> NativeBackend:
        """Return the backend that measures with the kernel: this one."""
        return self

    def measure(
        self,
        gradients: Sequence[Tensor],
        weights: Sequence[Tensor],
        keys: Sequence[int],
        scalars: Sequence[Tensor],
        sample: bool,
    ) -> Measurement:
        """Measure each gradient as it is now; see `backend.MeasuringBackend.measure`."""
        # No mode and no subclass of the user's sees the calls in here; all are on plain tensors,
        # and none computes anything. torch keeps the switch in its C++ module.
        with torch._C.DisableTorchFunction():  # pyright: ignore[reportPrivateUsage]
            tables = self._look_up(gradients, tuple(keys))
            numbers, exponents = self._call(tables.gradients, sample)
            samples = NO_SAMPLES
            if exponents is not None:
                samples = {
                    "weight_norm": self._weight_norms(tables, weights),
                    "dead_rows": numbers[DEAD_ROWS],
                    "exponents": exponents,
                }
            brought = self._bring(scalars) if scalars else NO_SCALARS
        measured = Measurement(NumberTable(numbers, PLACES), samples, brought)
        others = tables.gradients.others
        return (
            self._with_others(measured, tables.gradients, gradients, weights, keys, sample)
            if others
            else measured
        )

    def prepare(self, parameters: list[Tensor], keys: tuple[int, ...], sample: bool) -> None:
        """Make the tables of parameters whose gradients will lie as they do; see `Prepare`. Where
        these do not, the tables are made again.
        """
        name = _name(keys)
        if name in self._tables:
            return
        with without_user_modes():
            if not all(map(_is_usual, parameters)):
                return
            table = make_table(
                [parameter.detach() for parameter in parameters],  # as gradients, that need none
                memory_of=self._memory_by_position(keys),
            )
            weights = make_table(parameters) if sample and not table.others else None
        self._tables[name] = KernelTables(keys, table, weights)

    def measure_again(self, gradients: list[Tensor], keys: tuple[int, ...]) -> MeasuredAgain | None:
        """Return the values of plain gradients that lie as they did, or `None`; see
        `MeasureAgain`.
        """
        tables = self._last
        if tables is None or tables.keys is not keys or self._with_reference:
            return None
        table = tables.gradients
        values = object.__new__(NumberTable)
        values.num_rows, values.places = len(NUMBERS), PLACES
        with torch._C.DisableTorchFunction():  # pyright: ignore[reportPrivateUsage]
            if table.others:
                return None
            # the same as `table.fill` and what follows it, in C where all lie as they did
            if len(gradients) == len(table.known):
                table.pointers = NOT_KNOWN  # in case an exception arrives behind it
                found = tensor_reads.measure(
                    table.is_still_so,
                    gradients,
                    table.known_at,
                    table.entries_at,
                    ENTRY_WORDS,
                    self._measure_at,
                    torch.get_num_threads(),
                    self._instruction_set,
                    len(NUMBERS),
                    NORM,
                    NONFINITE,
                )
                if found is not None:
                    values.kept, is_ordinary = found
                    return values, is_ordinary
            if not table.fill(gradients):
                return None
        num = len(table.entries)
        values.kept = numbers = np.empty((len(NUMBERS), num))
        threads = torch.get_num_threads()
        address = address_of(numbers)
        if self._measure(table.address, num, threads, self._instruction_set, address, None) < 0:
            return None
        return values, are_ordinary(numbers[NORM], numbers[NONFINITE])

    def sample_again(
        self, gradients: list[Tensor], weights: list[Tensor], keys: tuple[int, ...]
    ) -> SampledAgain | None:
        """Return what `measure` does with a sample, where all lie as they did, or `None`; see
        `SampleAgain`.
        """
        tables = self._last
        if tables is None or tables.keys is not keys or self._with_reference:
            return None
        table, of_weights = tables.gradients, tables.weights
        if table.others or of_weights is None or of_weights.others:
            return None
        num = len(gradients)
        if num != len(table.known) or num != len(of_weights.known) or num != len(weights):
            return None
        numbers, norms = np.empty((len(NUMBERS), num)), np.empty((len(NUMBERS), num))
        exponents = np.empty((num, HISTOGRAM_BINS))
        # in case an exception arrives behind it
        table.pointers = of_weights.pointers = NOT_KNOWN
        with torch._C.DisableTorchFunction():  # pyright: ignore[reportPrivateUsage]
            if not tensor_reads.measure_sample(
                (table.is_still_so, gradients, table.known_at, table.entries_at),
                (of_weights.is_still_so, weights, of_weights.known_at, of_weights.entries_at),
                ENTRY_WORDS,
                self._measure_at,
                torch.get_num_threads(),
                self._instruction_set,
                numbers,
                norms,
                exponents,
            ):
                return None
        samples = {
            "weight_norm": norms[NORM],
            "dead_rows": numbers[DEAD_ROWS],
            "exponents": exponents,
        }
        is_ordinary = are_ordinary(numbers[NORM], numbers[NONFINITE])
        return NumberTable(numbers, PLACES), samples, is_ordinary

    def _call(
        self, table: NativeTable, sample: bool = False
    ) -> tuple[FloatArray, FloatArray | None]:
        """Run the kernel on the entries of a table  # m -> (NUMBERS, m) and, if `sample`, (m,
        W).
        """
        entries, address, exponents = table.entries, table.address, None
        if sample:
            # a request for this call alone must not stay in the table, whatever happens in between
            entries = entries.copy()
            entries[:, WANTED] = EXPONENTS | REPORT_ROWS
            address, exponents = address_of(entries), np.empty((len(entries), HISTOGRAM_BINS))
        numbers = np.empty((len(NUMBERS), len(entries)))
        threads = torch.get_num_threads()
        used = self._measure(
            address,
            len(entries),
            threads,
            self._instruction_set,
            address_of(numbers),
            None if exponents is None else address_of(exponents),
        )
        if used < 0:
            raise MemoryError("no memory to measure in")
        return numbers, exponents

    def _look_up(self, gradients: Sequence[Tensor], keys: tuple[int, ...]) -> KernelTables:
        """Return the tables of these parameters, with the pointers of their gradients."""
        tables = self._last
        if (
            tables is not None
            and tables.keys is keys
            and not self._with_reference
            and tables.gradients.fill(gradients)
        ):
            return tables
        lent = (
            {position for position, key in enumerate(keys) if key in self._with_reference}
            if self._with_reference
            else NONE_LENT
        )
        name = _name(keys)
        tables = self._tables.get(name)
        if (
            tables is None
            or tables.keys != keys
            or not lent.issubset(tables.gradients.others)
            or not tables.gradients.fill(gradients)
        ):
            table = make_table(gradients, lent, self._memory_by_position(keys))
            if len(self._tables) >= MOST_TABLES:
                self._forget_tables()
            tables = self._tables[name] = KernelTables(keys, table)
        tables.keys = keys  # the very tuple that is likely to come again
        self._last = tables
        return tables

    def _memory_by_position(
        self, keys: tuple[int, ...]
    ) -> Callable[[int, MemoryLayout], Memory] | None:
        """Return what gives the memory for the rows of the gradient at a position; `None`: none."""
        rows = self._rows
        if rows is None:
            return None
        return lambda position, layout: self._memory(rows, keys[position], layout)

    def _memory(self, rows: ActiveRows, key: int, layout: MemoryLayout) -> Memory:
        memory, is_another = rows.memory(key, layout.num_rows)
        if is_another:
            self._forget_tables()  # they point into the previous memory
        return memory

    def _weight_norms(self, tables: KernelTables, weights: Sequence[Tensor]) -> FloatArray:
        """Return the norms of the weights of those gradients that the kernel reads  # (m,)."""
        weights = tables.gradients.mine(weights)
        table = tables.weights = refill(tables.weights, weights)
        measured = self._call(table)[0][NORM]
        if not table.others:
            return measured
        norms = np.full(len(weights), np.nan)
        norms[table.positions] = measured
        others = [weights[position] for position in table.others]
        norms[table.others] = (
            ReferenceBackend()
            .measure(others, others, range(len(others)), (), sample=False)
            .values["grad_norm"]
        )
        return norms

    def _bring(self, scalars: Sequence[Tensor]) -> FloatArray:
        """Return the scalars themselves  # (k,); NaN where one is not a single floating-point
        number.
        """
        positions = [position for position, scalar in enumerate(scalars) if scalar.numel() == 1]
        single = [scalars[position] for position in positions]
        table = make_table(single)
        brought = np.full(len(single), np.nan)
        brought[table.positions] = self._call(table)[0][SUM]
        if table.others:
            brought[table.others] = (
                ReferenceBackend()
                .measure((), (), (), [single[position] for position in table.others], sample=False)
                .scalars
            )
        whole = np.full(len(scalars), np.nan)
        whole[positions] = brought
        return whole

    def _with_others(
        self,
        measured: Measurement,
        table: NativeTable,
        gradients: Sequence[Tensor],
        weights: Sequence[Tensor],
        keys: Sequence[int],
        sample: bool,
    ) -> Measurement:
        """Merge what the kernel measured  # m -> n with what the reference measures of the
        others.
        """
        others = table.others
        their_keys = [keys[position] for position in others]
        if self._rows is None:
            reference = ReferenceBackend()
        else:
            reference = self._reference
            self._lend(self._rows, their_keys)
        theirs = reference.measure(
            [gradients[p] for p in others], [weights[p] for p in others], their_keys, (), sample
        )
        if sample and self._rows is not None:
            # Now the reference remembers none of their rows, and the kernel can take those that it
            # can read by then.
            self._with_reference.difference_update(their_keys)
            self._tables.pop(_name(tuple(keys)), None)
            self._last = None

        def join(mine: FloatArray, other: FloatArray) -> FloatArray:
            whole = np.empty((len(gradients), *mine.shape[1:]))
            whole[table.positions], whole[others] = mine, other
            return whole

        return Measurement(
            {name: join(mine, theirs.values[name]) for name, mine in measured.values.items()},
            {name: join(mine, theirs.samples[name]) for name, mine in measured.samples.items()},
            measured.scalars,
        )

    def _forget_tables(self) -> None:
        self._tables.clear()
        self._last = None

    def _lend(self, rows: ActiveRows, keys: Sequence[int]) -> None:
        """Hand what is remembered of these parameters' rows to the reference, until the next
        sample.
        """
        for key in keys:
            alive = rows.forget(key)
            if alive is not None:
                self._reference.take_over_rows(key, alive)
                self._forget_tables()  # they point into the memory that is gone
        self._with_reference.update(keys)


def _is_usual(parameter: Tensor) -> bool:
    """Return whether the gradient of a parameter is likely to lie in memory as it does itself."""
    return parameter.is_cpu and parameter.is_leaf and parameter.requires_grad


def _name(keys: tuple[int, ...]) -> tuple[int, ...]:
    """Return the key under which tables are found; whether they match exactly these parameters is
    checked then.
    """
    return (len(keys), *keys[:1], *keys[-1:])
