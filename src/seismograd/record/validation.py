"""Build the values of the schema from JSON that may be damaged or made up: each field has the type
that it is annotated with, numbers are in range, and text is printable. And back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import numpy as np

from seismograd.printable import printable
from seismograd.record.strict_json import number

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")

MAX_COUNT = 2**53  # what a double holds exactly, as JSON's readers need it
MAX_WIDTH = 4096  # numbers of one statistic per parameter
MAX_COLUMNS = 2**24  # of a segment
_PLAIN_DTYPE = re.compile(r"[<>|=]?[biuf][1248]")
_MAX_FIELDS = 256


def build(kind: type[T], data: Any, **given: Any) -> T:
    """Return a value of a dataclass from a JSON object. Fields that this version does not know are
    left out; a later one of the same schema may have added some. `given` are fields that the caller
    made.

    Raises:
        ValueError: a field has the wrong type or is out of range.
        KeyError, TypeError: a field is missing, or it is not an object.
    """
    annotations = _annotations(kind)
    known = {
        field.name: checked(annotations[field.name], data[field.name])
        for field in fields(cast("Any", kind))
        if field.name in data and field.name not in given
    }
    return kind(**known, **given)


def fields_of(value: DataclassInstance) -> dict[str, Any]:
    """Return the fields of a value by name, for `build`, unchanged: `dataclasses.asdict` copies
    each number, which takes 20 ms for a thousand parameters.
    """
    return {name: getattr(value, name) for name in type(value).__dataclass_fields__}


def checked(annotation: Any, value: Any) -> Any:
    """Return a value of JSON as an annotation has it; raises `ValueError` when it is not one."""
    if annotation is str:
        return text(value)
    if annotation is int:
        return count(value)
    if annotation is bool:
        return _expect(isinstance(value, bool), value)
    if annotation is float:
        return number(_expect(isinstance(value, int | float | str), value))
    if annotation is NoneType:
        return _expect(value is None, value)
    arguments, origin = get_args(annotation), get_origin(annotation)
    if origin is tuple:
        return tuple(
            checked(arguments[0], each) for each in _expect(isinstance(value, list), value)
        )
    if origin in (Union, UnionType):
        if value is None and NoneType in arguments:
            return None
        return checked(next(each for each in arguments if each is not NoneType), value)
    if isinstance(annotation, type) and issubclass(annotation, str):  # an enumeration
        return annotation(value)
    raise TypeError(f"no way to check {annotation}")


def text(value: Any, keep: str = "") -> str:
    """Return text that can be printed; raises `ValueError` for anything but a string."""
    return printable(_expect(isinstance(value, str), value), keep)


def count(value: Any) -> int:
    """Return an integer in range; raises `ValueError` for anything else."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return _expect(whole and -MAX_COUNT <= value <= MAX_COUNT, value)


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a JSON object; raises `ValueError` for anything else."""
    return cast("Mapping[str, Any]", _expect(isinstance(value, dict), value))


def plain_dtype(value: Any) -> str:
    """Return a dtype of plain numbers; raises `ValueError` for any other, such as one of objects,
    whose numbers would be taken for addresses.
    """
    return _expect(isinstance(value, str) and bool(_PLAIN_DTYPE.fullmatch(value)), value)


def entry_dtype(value: Any) -> np.dtype[Any]:
    """Return the dtype of entries that `meta.json` names, all fields of which are plain numbers."""
    named = cast("list[tuple[Any, Any]]", _expect(isinstance(value, list), value))
    _expect(0 < len(named) <= _MAX_FIELDS, value)
    return np.dtype([(text(name), plain_dtype(dtype)) for name, dtype in named])


@cache
def _annotations(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind)


def _expect(holds: bool, value: Any) -> Any:
    if not holds:
        raise ValueError(f"unexpected {str(value)[:40]!r}")
    return value
