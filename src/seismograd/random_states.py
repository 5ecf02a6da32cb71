"""Leave the global random numbers of Python and NumPy as they were."""

from __future__ import annotations

import random
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


@contextmanager
def same_random_numbers() -> Generator[None]:
    """Restore the states of `random` and of NumPy's global generator: libraries that we print with,
    and a model that is called once more, draw from them.
    """
    numpy: Any = sys.modules.get("numpy.random")
    python = random.getstate()
    theirs: Any = None if numpy is None else numpy.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        if numpy is not None:
            numpy.set_state(theirs)
