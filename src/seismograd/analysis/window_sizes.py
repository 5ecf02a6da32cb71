"""The sizes of the last windows of one optimizer, in micro-batches, and the pattern in them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

MAX_SIZES = 64
MAX_ORDER = 3  # gaps by which the next one is predicted


@dataclass(slots=True)
class WindowSizes:
    """`full` is the size of most windows that are not plain, `gaps` holds the sizes of the windows
    between any two full ones.
    """

    first: int = -1  # iteration of the first that is not plain
    last: int = -1  # number of the last that is not plain
    sizes: list[int] = field(default_factory=list[int])
    full: int = 0
    gaps: list[tuple[int, ...]] = field(default_factory=list[tuple[int, ...]])

    def add(self, index: int, iteration: int, size: int) -> None:
        """Add step number `index` of the optimizer, whose window has two or more micro-batches;
        those since the one before have one each.
        """
        plain = min(index - self.last - 1, MAX_SIZES)
        self.sizes = [*self.sizes, *([1] * plain), size][-MAX_SIZES:]
        self.last = index
        self.first = iteration if self.first < 0 else self.first
        self._find_gaps()

    @property
    def share(self) -> float:
        """Return the share of full windows."""
        return (len(self.gaps) + 1) / len(self.sizes) if self.full else 0.0

    def is_regular(self, share: float) -> bool:
        """Return whether there are gaps, and this share of them has the same length."""
        if not self.gaps:
            return False
        length, often = Counter(map(len, self.gaps)).most_common(1)[0]
        return length > 0 and often >= share * len(self.gaps)

    def is_split(self, share: float, min_gaps: int, min_predicted: int) -> bool:
        """Return whether this share of the gaps are full windows that were ended once before they
        were full, and this share of their lengths follows from those before.
        """
        filled = [gap for gap in self.gaps if gap]
        in_two = sum(self._is_in_two(gap) for gap in filled)
        if len(filled) < min_gaps or in_two < share * len(filled):
            return False
        lengths = [len(gap) for gap in self.gaps]
        predicted = (_predicted(lengths, order) for order in range(1, MAX_ORDER + 1))
        return any(num >= min_predicted and right >= share * num for num, right in predicted)

    def period(self) -> list[int]:
        """Return the last windows from one full one to another, over two gaps that are filled."""
        shown: list[int] = []
        num_filled = 0
        for gap in reversed(self.gaps):
            shown = [self.full, *gap, *shown]
            num_filled += bool(gap)
            if num_filled == 2:
                break
        return [*shown, self.full]

    def _find_gaps(self) -> None:
        counts = Counter(size for size in self.sizes if size > 1)
        self.full = max(counts, key=lambda size: (counts[size], size))
        self.gaps = []
        if counts[self.full] == len(self.sizes):
            self.gaps = [()] * (len(self.sizes) - 1)
            return
        since: list[int] | None = None
        for size in self.sizes:
            if size < self.full:
                if since is not None:
                    since.append(size)
                continue
            if since is not None:
                self.gaps.append(tuple(since))
            since = []

    def _is_in_two(self, gap: tuple[int, ...]) -> bool:
        pairs = zip(gap[::2], gap[1::2], strict=False)
        return len(gap) % 2 == 0 and all(a + b == self.full for a, b in pairs)


def _predicted(lengths: Sequence[int], order: int) -> tuple[int, int]:
    """Return how many lengths come after `order` others that occur repeatedly, and how many are
    the most frequent ones after those.
    """
    after: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for position in range(order, len(lengths)):
        after[tuple(lengths[position - order : position])][lengths[position]] += 1
    repeated = [counts for counts in after.values() if counts.total() > 1]
    return sum(counts.total() for counts in repeated), sum(max(c.values()) for c in repeated)
