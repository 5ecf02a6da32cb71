"""The list of statistics, one file each. To add one: a file here, a line below, and its entry in
`seismograd.schema.STATISTICS`.
"""

from __future__ import annotations

from seismograd.measure.statistics.exponents import EXPONENTS
from seismograd.measure.statistics.largest import GRAD_MAX
from seismograd.measure.statistics.nonfinite import NONFINITE
from seismograd.measure.statistics.norm import GRAD_NORM, WEIGHT_NORM
from seismograd.measure.statistics.sum import GRAD_SUM
from seismograd.measure.statistics.zeros import ZEROS

# `dead_rows` is not among them: it remembers earlier iterations (`dead_rows.DeadRows`).
FORMULAS = (GRAD_NORM, GRAD_MAX, GRAD_SUM, ZEROS, NONFINITE, WEIGHT_NORM, EXPONENTS)
