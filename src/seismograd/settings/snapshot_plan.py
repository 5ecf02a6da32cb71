"""When snapshots are taken, of what, and how many: the value of `--snapshot`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seismograd.errors import SeismogradError
from seismograd.i18n import say

EVERY, STEP, KEEP, LIMIT = "every", "step", "keep", "limit"
ON_FINDING, BATCH, WEIGHTS = "on-finding", "batch", "weights"
MAX_NUMBER = 2**53
GIB = 2**30


@dataclass(frozen=True, slots=True)
class SnapshotPlan:
    """`every` so many steps (0: never), at these `steps`, at findings; the weights as well, the
    batch as well. Of those of `every` the newest `keep` stay; all together take `max_bytes` at
    most.
    """

    every: int = 0
    steps: frozenset[int] = frozenset()
    on_finding: bool = False
    batch: bool = False
    weights: bool = False
    keep: int = 8
    max_bytes: int = 4 * GIB


def parse_snapshots(texts: Sequence[str]) -> SnapshotPlan | None:
    """Return the plan that these values ask for; `None` where there are none. Each may name
    several, with commas.

    Raises:
        SeismogradError: one of them is not understood.
    """
    items = [item.strip() for text in texts for item in text.split(",")]
    if not items:
        return None
    numbers: dict[str, list[int]] = {EVERY: [], STEP: [], KEEP: [], LIMIT: []}
    words: set[str] = set()
    for item in items:
        name, equals, value = item.partition("=")
        if equals and name in numbers:
            least = 0 if name == STEP else 1
            numbers[name].append(_number(item, value, least))
        elif item in (ON_FINDING, BATCH, WEIGHTS):
            words.add(item)
        else:
            raise _refused(item)
    plan = SnapshotPlan()
    found = SnapshotPlan(
        every=numbers[EVERY][-1] if numbers[EVERY] else 0,
        steps=frozenset(numbers[STEP]),
        on_finding=ON_FINDING in words,
        batch=BATCH in words,
        weights=WEIGHTS in words,
        keep=numbers[KEEP][-1] if numbers[KEEP] else plan.keep,
        max_bytes=numbers[LIMIT][-1] * GIB if numbers[LIMIT] else plan.max_bytes,
    )
    if not (found.every or found.steps or found.on_finding or found.batch):
        raise SeismogradError(
            say("--snapshot does not say when"), say("for example every=100 or on-finding")
        )
    return found


def _number(item: str, text: str, least: int) -> int:
    if not (text.isascii() and text.isdecimal()) or not least <= int(text[:17]) <= MAX_NUMBER:
        raise _refused(item)
    return int(text[:17])


def _refused(item: str) -> SeismogradError:
    return SeismogradError(
        say("--snapshot does not take {text}", text=repr(item)),
        say("use every=N, step=N, on-finding, batch, weights, keep=N or limit=GIB"),
    )
