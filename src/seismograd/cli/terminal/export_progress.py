"""Show how far an export is, where stderr is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

Item = TypeVar("Item")


def counted(items: Iterable[tuple[Item, int]], total: int) -> Iterator[Item]:
    """Yield the items; each comes with how many of the `total` steps it holds."""
    console = Console(stderr=True)
    with Progress(
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as progress:
        task = progress.add_task("", total=max(1, total))
        for item, steps in items:
            yield item
            progress.advance(task, steps)
