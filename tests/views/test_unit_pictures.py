"""Gradients of single units as pictures: which weights have one, and that it shows the numbers of
the snapshot.
"""

from __future__ import annotations

import base64
import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seismograd.record.reader import Run, open_run
from seismograd.schema import Parameter
from seismograd.views.page_api.packing import unpack
from seismograd.views.page_api.run_source import open_source
from seismograd.views.report.bundle import bundle
from seismograd.views.unit_pictures import (
    NONFINITE,
    PictureForm,
    picture_forms,
    pictured,
    read_pictures,
)
from tests.record.test_snapshots import write
from tests.synthetic import block, make_parameters, write_run

EMBEDDING = replace(make_parameters(names=["emb.weight"], shapes=[(50, 3)])[0], module="Embedding")


def weights(*shapes: tuple[int, ...], module: str = "Linear") -> tuple[Parameter, ...]:
    names = [f"net.{index}.weight" for index in range(len(shapes))]
    return tuple(replace(p, module=module) for p in make_parameters(names=names, shapes=shapes))


@pytest.mark.parametrize(
    ("parameters", "forms"),
    [
        (weights((4, 784), (10, 784)), {0: PictureForm(1, 28, 28)}),  # only the first is on images
        (weights((4, 3 * 32 * 32)), {0: PictureForm(3, 32, 32)}),
        (weights((4, 100)), {0: PictureForm(1, 10, 10)}),
        (weights((4, 49), (4, 64)), {}),  # too small for an image
        (weights((4, 65)), {}),
        (weights((8, 3, 5, 7), module="Conv2d"), {0: PictureForm(3, 5, 7)}),
        (weights((8, 64, 5, 5), (8, 3, 1, 1), module="Conv2d"), {}),
        ((EMBEDDING,), {0: PictureForm(1, 1, 3)}),
    ],
)
def test_which_weights_have_a_picture(
    parameters: tuple[Parameter, ...], forms: dict[int, PictureForm]
) -> None:
    assert picture_forms(parameters) == forms


def keep(run: Path, step: int, scale: str = "1.0", **tensors: np.ndarray[Any, Any]) -> Path:
    """Write a snapshot of these gradients."""
    header: dict[str, Any] = {
        "__metadata__": {
            "step": str(step),
            "content": "gradients",
            "reason": "every",
            "scale": scale,
        }
    }
    data = b""
    for name, values in tensors.items():
        part = values.astype("<f4").tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(values.shape),
            "data_offsets": [len(data), len(data) + len(part)],
        }
        data += part
    return write(run / "snapshots" / f"step-{step:08d}.safetensors", header, data)


FIRST = np.zeros((5, 64))
FIRST[1, 7], FIRST[1, 8] = 2.0, -1.0
FIRST[2, 0] = 1e-6
FIRST[3, 63], FIRST[3, 5] = np.nan, 1.0


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Twenty steps of two layers, whose gradients were kept at steps 2 and 12."""
    path = write_run(
        tmp_path / "run", [block(np.ones((20, 2)), parameters=weights((5, 64), (3, 5)))]
    )
    second = np.ones((3, 5))
    keep(path, 2, **{"net.0.weight": np.full((5, 64), 0.5), "net.1.weight": second})
    keep(path, 12, "4.0", **{"net.0.weight": FIRST * 4, "net.1.weight": second})
    return open_run(path)


def test_a_picture_has_the_numbers_of_the_nearest_snapshot(run: Run) -> None:
    assert pictured(run) == {0: [2, 12]}
    assert read_pictures(run, 1, 12) is None
    early, late = (read_pictures(run, 0, step) for step in (6, 19))
    assert early is not None
    assert late is not None
    assert (early.step, late.step) == (2, 12)
    assert (early.codes == 127).all()
    assert late.codes.shape == (5, 1, 8, 8)
    assert late.units.tolist() == [3, 1, 2, 0, 4]  # what is not finite first, then by norm
    np.testing.assert_allclose(late.norms, [np.nan, 5**0.5, 1e-6, 0, 0])
    np.testing.assert_allclose(late.largest, [1, 2, 1e-6, 0, 0])  # without the loss scale
    assert (late.num_units, late.num_zero_units) == (5, 2)
    assert late.nonfinite.tolist() == [1 / 64, 0, 0, 0, 0]
    assert late.zeros[1] == 62 / 64
    bad, plain = late.codes[0, 0], late.codes[1, 0]
    assert (bad[7, 7], bad[0, 5], bad[0, 0]) == (NONFINITE, 127, 0)
    assert (plain[0, 7], plain[1, 0], plain[2, 2]) == (127, -64, 0)


def test_no_number_but_zero_is_drawn_as_zero(run: Run) -> None:
    tiny = np.array([[1e30, -1e-30, 0.0, 1e-38]]).repeat(16, axis=1).repeat(5, axis=0)
    keep(run.path, 19, **{"net.0.weight": tiny})
    found = read_pictures(run, 0, 19)
    assert found is not None
    assert ((found.codes.reshape(5, 64) == 0) == (tiny.astype("f4") == 0)).all()


def test_a_wide_row_shows_what_stands_out(tmp_path: Path) -> None:
    wide = replace(EMBEDDING, shape=(3, 1200), numel=3600)
    path = write_run(tmp_path / "run", [block(np.ones((4, 1)), parameters=(wide,))])
    gradient = np.zeros((3, 1200))
    gradient[2, 1199], gradient[2, 1198] = -3.0, 0.1
    keep(path, 1, **{"emb.weight": gradient})
    found = read_pictures(open_run(path), 0, 0)
    assert found is not None
    assert found.codes.shape == (3, 1, 1, 400)
    assert found.codes[0, 0, 0, -1] == -127
    assert not found.codes[0, 0, 0, :-1].any()


def test_a_damaged_snapshot_has_no_picture(run: Run) -> None:
    path = run.path / "snapshots" / "step-00000012.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    assert pictured(run) == {0: [2]}
    wrong = keep(run.path, 12, **{"net.0.weight": np.ones((5, 63))})  # of another shape
    assert unpack(open_source(run).picture(0, 12))[0]["step"] == -1
    wrong.write_bytes(b"no snapshot")
    assert unpack(open_source(run).picture(0, 12))[0]["step"] == 2


def test_the_page_and_a_report_get_the_pictures(run: Run) -> None:
    source = open_source(run)
    assert unpack(source.meta())[0]["pictures"] == [0]
    header, arrays = unpack(source.answer("picture", {"column": "0", "row": "19"}))
    assert (header["step"], header["units"], header["zero_units"]) == (12, 5, 2)
    assert arrays["unit"].tolist() == [3, 1, 2, 0, 4]
    packed, held = unpack(gzip.decompress(base64.b64decode(bundle(source))))
    assert packed["picture_rows"] == {"0": [2, 12]}
    answers: Any = packed["answers"]
    start, length = answers["picture/0/12"]
    told, numbers = unpack(held["bytes"][start : start + length].tobytes())
    assert told["step"] == 12
    np.testing.assert_array_equal(numbers["codes"], arrays["codes"])


def test_a_run_without_snapshots_has_none(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", [block(np.ones((4, 1)), parameters=weights((4, 64)))])
    source = open_source(open_run(path))
    assert unpack(source.meta())[0]["pictures"] == []
    assert unpack(source.picture(0, 2)) == ({"step": -1, "column": 0}, {})
