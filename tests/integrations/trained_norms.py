"""The norms of a run whose process may hold models of other tests."""

from __future__ import annotations

import numpy as np

from seismograd.record.reader import Run


def norms(run: Run) -> dict[str, list[float]]:
    """Return the norms of each parameter that has any: models of other tests may be alive, which
    `watch()` sees without training them.
    """
    every = np.concatenate([each.values["grad_norm"] for each in run.blocks(64)])
    return {
        p.name: column.tolist()
        for p, column in zip(run.parameters, every.T, strict=True)
        if not np.isnan(column).all()
    }


def assert_same_norms(run: Run, reference: Run) -> None:
    """The trained parameters and their norms are those of the reference, whose names may say also
    which of several models they are in.
    """
    found, expected = norms(run), norms(reference)
    assert found
    for (name, column), (other, of_reference) in zip(found.items(), expected.items(), strict=True):
        assert other.endswith(name)
        np.testing.assert_array_equal(column, of_reference, err_msg=name)
