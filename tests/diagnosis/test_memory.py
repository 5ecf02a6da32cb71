"""What rules keep between blocks, against the same computed from the whole."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import event, given
from hypothesis import strategies as st

from seismograd.analysis.norm_growth import GrowthBaseline, NormGrowth, NormSeries
from seismograd.analysis.recent_hits import RecentHits
from seismograd.analysis.robust_line import fit_line

flags = st.lists(st.booleans(), max_size=120)
cuts = st.lists(st.integers(0, 120), max_size=8)


def pieces(length: int, positions: list[int]) -> list[slice]:
    edges = [0, *sorted(position for position in positions if position <= length), length]
    return [slice(start, stop) for start, stop in pairwise(edges)]


@given(flags, cuts, st.integers(1, 30), st.integers(1, 30))
def test_recent_counts_as_one_who_keeps_everything(
    shown: list[bool], positions: list[int], size: int, enough: int
) -> None:
    recent, steps, reached = RecentHits(size), np.arange(len(shown)) * 3, []
    for part in pieces(len(shown), positions):
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


LEVELS = [0.0, 1e-3, 1.0, 2.0, 3e3, 1e7]
jumping = st.lists(
    st.tuples(st.sampled_from(LEVELS), st.sampled_from([1.0, 2.0, 3.0, np.nan])), max_size=80
)
rising = st.builds(
    lambda quiet, factors, lost: (
        [(1.0, 1.0)] * quiet
        + [(power, np.nan if lost else power) for power in np.cumprod([2.0, *factors])]
    ),
    st.integers(0, 20),
    st.lists(st.sampled_from([1.3, 2.0, 3.0]), max_size=30),
    st.booleans(),
)


@given(jumping | rising, cuts)
def test_growth_is_found_as_by_one_who_keeps_everything(
    entries: list[tuple[float, float]], positions: list[int]
) -> None:
    norms, losses = (np.array([entry[index] for entry in entries]) for index in (0, 1))
    against = GrowthBaseline(usual=8, early=5, elevated=3, rising=12, least_rising=6, goodness=0.9)
    series, steps, found = NormSeries(against), np.arange(len(entries)) * 2, None
    for part in pieces(len(entries), positions):
        grown = series.add(norms[part], losses[part], steps[part], 1e3 if found is None else None)
        found = (part.start + grown.index, replace(grown, index=0)) if grown is not None else found
    if found is not None:
        event("high above" if found[1].first_step == found[1].step - 4 else "rising")
    assert repr(found) == repr(_naive(norms, losses, steps))


def _naive(
    norms: np.ndarray, losses: np.ndarray, steps: np.ndarray
) -> tuple[int, NormGrowth] | None:
    """The same with the whole list at hand."""
    for end in range(1, len(norms) + 1):
        early = np.median(norms[: min(5, max(end - 3, 0))]) if end > 3 else 0.0
        high, past = slice(max(end - 3, 0), end), slice(max(end - 11, 0), max(end - 3, 0))
        loss = _median(losses[past])
        baseline = max(float(np.median(norms[past])), float(early)) if end >= 5 else 0.0
        if (
            end >= 5
            and baseline > 0
            and (norms[high] >= 1e3 * baseline).all()
            and not (losses[high] < loss).any()
        ):
            return end - 1, NormGrowth(
                0,
                int(steps[end - 3]),
                int(steps[end - 1]),
                float(norms[end - 1]),
                baseline,
                float(losses[end - 1]),
                loss,
            )
        start = max(end - 12, 0)
        rise = norms[start:end]
        if (
            len(rise) < 6
            or (rise <= 0).any()
            or (start and rise[-1] < 1e3 * np.median(norms[: min(5, start)]))
        ):
            continue
        slope, goodness = fit_line(np.log10(rise)[None])
        decades, loss = (
            float(slope[0]) * (len(rise) - 1),
            _median(losses[start : start + len(rise) // 2]),
        )
        if (
            rise[-1] < 1e3 * rise.min()
            or decades < 3
            or goodness[0] < 0.9
            or (losses[high] < 2 * loss).any()
        ):
            continue
        baseline = float(rise.min())
        first = start + int(np.argmax(rise >= 10 * baseline))
        return end - 1, NormGrowth(
            0,
            int(steps[first]),
            int(steps[end - 1]),
            float(rise[-1]),
            baseline,
            float(losses[end - 1]),
            loss,
        )
    return None


def _median(losses: np.ndarray) -> float:
    known = losses[~np.isnan(losses)]
    return float(np.median(known)) if len(known) else float("nan")
