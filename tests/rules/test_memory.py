"""What rules keep between blocks, against the same computed from the whole."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from seismograd.rules.growth import Baseline, Growth, NormSeries
from seismograd.rules.recent import Recent

flags = st.lists(st.booleans(), max_size=120)
cuts = st.lists(st.integers(0, 120), max_size=8)


def pieces(length: int, places: list[int]) -> list[slice]:
    edges = [0, *sorted(place for place in places if place <= length), length]
    return [slice(start, stop) for start, stop in pairwise(edges)]


@given(flags, cuts, st.integers(1, 30), st.integers(1, 30))
def test_recent_counts_as_one_who_keeps_everything(shown: list[bool], places: list[int], size: int, enough: int) -> None:
    recent, steps, reached = Recent(size), np.arange(len(shown)) * 3, []
    for part in pieces(len(shown), places):
        found = recent.add(np.array(shown[part], bool), steps[part], enough)
        if found is not None:
            reached.append((part.start + found[0], found[1]))
    wanted = []
    for end in range(1, len(shown) + 1):
        last = shown[max(end - size, 0) : end]
        if shown[end - 1] and sum(last) >= enough and 2 * sum(last) >= len(last):
            wanted.append((end - 1, int(steps[max(end - size, 0) + last.index(True)])))
    assert reached[:1] == wanted[:1]
    assert recent.count == len(shown)
    assert recent.num_hits(size) == sum(shown[-size:])
    assert recent.num_hits(1) == sum(shown[-1:])


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1e-3, 1.0, 2.0, 3e3, 1e7]), st.sampled_from([1.0, 2.0, 3.0, np.nan])), max_size=80),
    cuts,
)
def test_growth_is_found_as_by_one_who_keeps_everything(entries: list[tuple[float, float]], places: list[int]) -> None:
    norms, losses = (np.array([entry[index] for entry in entries]) for index in (0, 1))
    against, steps, found = Baseline(usual=8, early=5, elevated=3), np.arange(len(entries)) * 2, None
    series = NormSeries(against)
    for part in pieces(len(entries), places):
        grown = series.add(norms[part], losses[part], steps[part], 1e3 if found is None else None)
        found = (part.start + grown.index, replace(grown, index=0)) if grown is not None else found
    assert repr(found) == repr(_naive(norms, losses, steps))


def _naive(norms: np.ndarray, losses: np.ndarray, steps: np.ndarray) -> tuple[int, Growth] | None:
    for end in range(5, len(norms) + 1):
        high, past = slice(end - 3, end), slice(max(end - 11, 0), end - 3)
        baseline = max(np.median(norms[past]), np.median(norms[: min(5, end - 3)]))
        known = losses[past][~np.isnan(losses[past])]
        loss = np.median(known) if len(known) else np.nan
        if baseline > 0 and (norms[high] >= 1e3 * baseline).all() and not (losses[high] < loss).any():
            last = end - 1
            numbers = float(norms[last]), float(baseline), float(losses[last]), float(loss)
            return last, Growth(0, int(steps[last - 2]), int(steps[last]), *numbers)
    return None
