"""Gradients of single units as pictures: of a first layer on images, of filters, of the rows of an
embedding, as a snapshot holds them.

Shapes: U units, K shown ones, N numbers of a unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from seismograd.analysis.profile_layers import layers_of
from seismograd.record.reader import Run
from seismograd.record.snapshot_reader import Snapshot, list_snapshots, whole_tensor
from seismograd.schema import AnyArray, FloatArray, IntArray, Parameter
from seismograd.schema.snapshots import SnapshotContent

NONFINITE = -128
_LARGEST_CODE = 127
_SMALLEST_SIDE = 8  # of images that a Linear takes as a row of pixels
_PLANES = (1, 3)
_MOST_FILTER_PLANES = 4
_EMBEDDINGS = ("Embedding", "EmbeddingBag")
_MOST_UNITS = 24
_MOST_NUMBERS = 120_000  # of all pictures together
_MOST_WIDE = 512
_MOST_READ = 2**27  # numbers of a gradient; a larger one has no picture


@dataclass(frozen=True, slots=True)
class PictureForm:
    """How the gradient of one unit lies as a picture: so many planes beside each other."""

    planes: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class UnitPictures:
    """The units of a weight whose gradients are the largest, those that are not finite first.

    `codes`: (K, planes, height, width), int8: each unit's numbers as 127ths of its largest
    magnitude, 0 for exactly 0 only, `NONFINITE` for what is not finite; a width of more than
    `_MOST_WIDE` in as many stretches at most.
    """

    step: int
    form: PictureForm
    num_units: int
    num_zero_units: int
    units: IntArray  # (K,)
    norms: FloatArray  # (K,)
    largest: FloatArray  # (K,), of magnitude, of what is finite
    zeros: FloatArray  # (K,), the share that is exactly 0
    nonfinite: FloatArray  # (K,), the share that is not finite
    codes: AnyArray


def picture_forms(parameters: Sequence[Parameter]) -> dict[int, PictureForm]:
    """Return the forms by column of the weights that have a picture.

    That the row of a first Linear is an image is taken from its size: one or three squares of 8 × 8
    or more.
    """
    layers = layers_of(parameters)
    first = int(layers.columns[0]) if len(layers) else -1
    forms = {
        column: _form(each, is_first=column == first) for column, each in enumerate(parameters)
    }
    return {column: form for column, form in forms.items() if form is not None}


def pictured(run: Run) -> dict[int, list[int]]:
    """Return by column of which steps there are pictures; what is damaged holds none."""
    forms = picture_forms(run.parameters)
    columns = {run.parameters[column].name: column for column in forms}
    found: dict[int, set[int]] = {}
    for snapshot in _gradients(run) if forms else ():
        for name in snapshot.tensors.keys() & columns.keys():
            found.setdefault(columns[name], set()).add(snapshot.step)
    return {column: sorted(found[column]) for column in sorted(found)}


def read_pictures(run: Run, column: int, step: int) -> UnitPictures | None:
    """Return the pictures of a weight in the snapshot nearest to a step; `None` where there is
    none.

    Raises:
        SeismogradError: the snapshot cannot be read, or lacks parts of the weight.
    """
    form = picture_forms(run.parameters).get(column)
    if form is None:
        return None
    name, shape = run.parameters[column].name, run.parameters[column].shape
    kept = [each for each in _gradients(run) if name in each.tensors]
    if not kept or not 0 < math.prod(shape) <= _MOST_READ:
        return None
    nearest = min((each.step for each in kept), key=lambda other: (abs(other - step), other))
    of_step = [each for each in kept if each.step == nearest]
    whole = whole_tensor(of_step, name, nearest)
    if whole.shape != shape or whole.dtype.kind != "f":
        return None
    return _pictures(whole, of_step[0].scale, form, nearest)


def _form(parameter: Parameter, is_first: bool) -> PictureForm | None:
    shape, module = parameter.shape, parameter.module
    if len(shape) == 2 and module in _EMBEDDINGS and shape[1] > 1:
        return PictureForm(1, 1, shape[1])
    if len(shape) == 4 and module.endswith("Conv2d"):
        planes, height, width = shape[1:]
        if 0 < planes <= _MOST_FILTER_PLANES and min(height, width) > 1:
            return PictureForm(planes, height, width)
    if len(shape) == 2 and module.endswith("Linear") and is_first:
        for planes in _PLANES:
            side = math.isqrt(shape[1] // planes)
            if planes * side * side == shape[1] and side >= _SMALLEST_SIDE:
                return PictureForm(planes, side, side)
    return None


def _gradients(run: Run) -> Iterable[Snapshot]:
    for each in list_snapshots(run.path):
        if isinstance(each, Snapshot) and each.content is SnapshotContent.GRADIENTS:
            yield each


def _pictures(whole: AnyArray, scale: float, form: PictureForm, step: int) -> UnitPictures:
    rows = whole.reshape(len(whole), -1)  # (U, N)
    finite: AnyArray = np.isfinite(rows)
    sound = np.where(finite, rows, 0).astype(np.float64) / (scale or 1.0)
    norms = np.sqrt(np.square(sound).sum(axis=1))
    bad: AnyArray = np.greater((~finite).sum(axis=1), 0)
    num_shown = max(1, min(_MOST_UNITS, _MOST_NUMBERS // rows.shape[1], len(rows)))
    shown = np.lexsort((-norms, ~bad))[:num_shown]
    chosen, known = sound[shown], finite[shown]
    largest = np.abs(chosen).max(axis=1)
    return UnitPictures(
        step=step,
        form=form,
        num_units=len(rows),
        num_zero_units=int(((norms == 0) & ~bad).sum()),
        units=shown.astype(np.int64),
        norms=np.where(bad[shown], np.nan, norms[shown]),
        largest=largest,
        zeros=((chosen == 0) & known).mean(axis=1),
        nonfinite=(~known).mean(axis=1),
        codes=_codes(chosen, known, largest, form),
    )


def _codes(chosen: FloatArray, known: AnyArray, largest: FloatArray, form: PictureForm) -> AnyArray:
    """Return the codes (K, planes, height, width); of a wide row one for each stretch, of the
    number that stands out most.
    """
    scaled = chosen / np.where(largest > 0, largest, 1)[:, None]
    sizes = np.maximum(1, np.ceil(np.abs(scaled) * _LARGEST_CODE))
    rounded = np.sign(chosen) * sizes  # 0 for exactly 0 only
    codes = np.where(known, rounded, NONFINITE).astype(np.int8)
    stretch = -(-form.width // _MOST_WIDE)
    if stretch > 1:
        padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % stretch)))
        parts = padded.reshape(len(codes), -1, stretch)
        most = np.abs(parts.astype(np.int16)).argmax(axis=2)
        codes = np.take_along_axis(parts, most[:, :, None], axis=2)[:, :, 0]
    return codes.reshape(len(codes), form.planes, form.height, -1)
