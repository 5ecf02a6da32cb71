"""Every kind of fault that can be put into a program."""

from __future__ import annotations

from benchmarks.truth.mutators.clip import CLIP_FAULTS
from benchmarks.truth.mutators.dependence import DEPENDENCE
from benchmarks.truth.mutators.frozen import FROZEN
from benchmarks.truth.mutators.graph import GRAPH
from benchmarks.truth.mutators.holding import HOLDING
from benchmarks.truth.mutators.loss import LOSS
from benchmarks.truth.mutators.nonfinite import NONFINITE
from benchmarks.truth.mutators.order import ORDER
from benchmarks.truth.mutators.rate import RATES
from benchmarks.truth.mutators.schedule import SCHEDULED
from benchmarks.truth.mutators.start import START
from benchmarks.truth.mutators.terms import TERMS
from benchmarks.truth.mutators.values import VALUES
from benchmarks.truth.mutators.windows import WINDOWS

MUTATORS = (
    *ORDER,
    *CLIP_FAULTS,
    *WINDOWS,
    *GRAPH,
    *FROZEN,
    *HOLDING,
    *START,
    *NONFINITE,
    *LOSS,
    *TERMS,
    *SCHEDULED,
    *RATES,
    *DEPENDENCE,
    *VALUES,
)
