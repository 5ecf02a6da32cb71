"""Compare the norms of two records of one training, made within a program of many models."""

from __future__ import annotations

import numpy as np

from seismograd.record.reader import Run


def assert_same_norms(run: Run, reference: Run) -> None:
    """The trained parameters and their norms are those of the reference, whose names may say also
    which of several models they are in.
    """
    found, expected = _norms(run), _norms(reference)
    assert found
    for (name, column), (other, norms) in zip(found.items(), expected.items(), strict=True):
        assert other.endswith(name)
        np.testing.assert_array_equal(column, norms, err_msg=name)


def _norms(run: Run) -> dict[str, list[float]]:
    """Return the norms of each parameter that has any: models of other tests may be alive, which
    `watch()` sees without training them.
    """
    return {
        parameter.name: column.tolist()
        for parameter, column in zip(run.parameters, run.series("grad_norm").T, strict=True)
        if not np.isnan(column).all()
    }
