"""Entries that are made by name, or read in order, have the fields of the record in its order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from seismograd.analysis.step_window import WindowEvent
from seismograd.schema import EVENT_DTYPE, STEP_DTYPE, event_entry, step_entry


@pytest.mark.parametrize(("make", "dtype"), [(event_entry, EVENT_DTYPE), (step_entry, STEP_DTYPE)])
def test_each_field_goes_to_its_own_place(
    make: Callable[..., tuple[object, ...]], dtype: np.dtype[Any]
) -> None:
    given = {name: number for number, name in enumerate(dtype.names or ())}
    made = np.array(make(**given), dtype)
    assert {name: int(made[name]) for name in given} == given


def test_an_event_of_a_window_has_the_fields_of_the_record() -> None:
    *names, used = (field.name for field in fields(WindowEvent))
    assert tuple(names) == EVENT_DTYPE.names
    assert used == "used"
