"""Array types by the type of their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
StateArray = npt.NDArray[np.uint8]
AnyArray = npt.NDArray[Any]
