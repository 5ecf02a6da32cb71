"""A pinned fingerprint as a file: JSON, with a line for each parameter, so that a diff shows which
gradients have changed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seismograd.errors import SeismogradError
from seismograd.golden.comparison import Pinned
from seismograd.golden.differences import QUANTITIES
from seismograd.golden.fingerprint import Fingerprint
from seismograd.i18n import say
from seismograd.record import strict_json
from seismograd.schema import HISTOGRAM_BINS, FloatArray, Parameter, State

FORMAT = "seismograd golden"
VERSION = 1
MOST_BYTES = 256 * 2**20  # a file that is larger is none of these


def write_golden(path: Path, pinned: Pinned) -> None:
    """Write a pinned fingerprint; the file is replaced as a whole."""
    reference = pinned.fingerprint
    head = {
        "format": FORMAT,
        "version": VERSION,
        "torch": reference.torch_version,
        "steps": reference.num_steps,
    }
    lines = [strict_json.dumps({key: value})[1:-1] for key, value in head.items()]
    parameters = b",\n".join(
        b"  " + strict_json.dumps(_parameter(pinned, column))
        for column in range(len(reference.parameters))
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    beside.write_bytes(
        b"{\n " + b",\n ".join([*lines, b'"parameters": [\n' + parameters + b"\n ]"]) + b"\n}\n"
    )
    beside.replace(path)


def read_golden(path: Path) -> Pinned:
    """Return what was pinned in a file.

    Raises:
        SeismogradError: there is no such file, or it is none of these.
    """
    how = say("write it with: seismograd pin")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("too large")
        content = strict_json.loads(path.read_bytes())
        if content["format"] != FORMAT or content["version"] != VERSION:
            raise ValueError("another format")
        return _pinned(content)
    except FileNotFoundError:
        raise SeismogradError(say("there is no {path}", path=str(path)), how) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise SeismogradError(
            say(
                "{path} is no file of pinned gradients: {reason}",
                path=str(path),
                reason=f"{type(error).__name__}: {str(error)[:200]}",
            ),
            how,
        ) from error


def _parameter(pinned: Pinned, column: int) -> Mapping[str, object]:
    reference, allowed = pinned.fingerprint, pinned.allowed
    own = reference.parameters[column]
    return {
        "name": own.name,
        "shape": list(own.shape),
        "dtype": own.dtype,
        "state": [State(state).name.lower() for state in reference.states[:, column].tolist()],
        "norm": reference.norms[:, column].tolist(),
        "zeros": reference.zeros[:, column].tolist(),
        "exponents": {
            str(step): {
                str(place): counts[column][place]
                for place in np.flatnonzero(counts[column] > 0).tolist()
            }
            for step, counts in reference.exponents.items()
            if not np.isnan(counts[column]).any()
        },
        "sketch": {
            str(step): [float(f"{value:.10g}") for value in sums[column].tolist()]
            for step, sums in reference.sketches.items()
            if not np.isnan(sums[column]).any()
        },
        "allowed": {
            name: [float(f"{value:.2g}") for value in values[:, column].tolist()]
            for name, values in allowed.items()
        },
    }


def _pinned(content: Any) -> Pinned:
    num_steps, given = int(content["steps"]), content["parameters"]
    shapes = [tuple(map(int, each["shape"])) for each in given]
    parameters = tuple(
        Parameter(str(each["name"]), shape, str(each["dtype"]), math.prod(shape))
        for each, shape in zip(given, shapes, strict=True)
    )
    states = np.array([[State[word.upper()] for word in each["state"]] for each in given], np.uint8)
    reference = Fingerprint(
        str(content["torch"]),
        parameters,
        _of_steps(states.T, num_steps),
        _numbers([each["norm"] for each in given], num_steps),
        _numbers([each["zeros"] for each in given], num_steps),
        _samples(given, "exponents", num_steps, _histogram),
        _samples(given, "sketch", num_steps, _sums),
    )
    allowed = {
        quantity.name: _numbers([each["allowed"][quantity.name] for each in given], num_steps)
        for quantity in QUANTITIES
    }
    return Pinned(reference, allowed)


def _of_steps(values: Any, num_steps: int) -> Any:
    if values.ndim != 2 or len(values) != num_steps or num_steps < 1:
        raise ValueError("not as many numbers as steps")
    return values


def _numbers(rows: list[Any], num_steps: int) -> FloatArray:
    values = np.array([[strict_json.number(value) for value in row] for row in rows], float)
    return _of_steps(values.T, num_steps)


def _histogram(counts: Mapping[str, float]) -> FloatArray:
    found = np.zeros(HISTOGRAM_BINS)
    for place, value in counts.items():
        found[int(place)] = value
    return found


def _sums(values: list[float]) -> FloatArray:
    return np.array(values, float)


def _samples(given: list[Any], name: str, num_steps: int, read: Any) -> dict[int, FloatArray]:
    steps = sorted({int(step) for each in given for step in each[name]})
    found: dict[int, FloatArray] = {}
    for step in steps:
        if not 0 <= step < num_steps:
            raise ValueError(f"{name} of step {step}")
        rows = [read(each[name][str(step)]) if str(step) in each[name] else None for each in given]
        width = next(len(row) for row in rows if row is not None)
        blank = np.full(width, np.nan)
        found[step] = np.stack([blank if row is None else row for row in rows])
    return found
