"""How long one process waits for another: never in the training, only in another thread and at the
end.
"""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RankTimeouts:
    """Timeouts in seconds. `late_s`: how long rank 0 holds an iteration back for a missing report;
    `exit_s`: how long the end may take.
    """

    late_s: float = 30.0
    exit_s: float = 10.0

    @staticmethod
    def from_environment() -> RankTimeouts:
        """Return the defaults, or the values of `SEISMOGRAD_RANK_LATE_S` and
        `SEISMOGRAD_RANK_EXIT_S`.
        """
        return RankTimeouts(
            _seconds("SEISMOGRAD_RANK_LATE_S", RankTimeouts().late_s),
            _seconds("SEISMOGRAD_RANK_EXIT_S", RankTimeouts().exit_s),
        )


def _seconds(name: str, default: float) -> float:
    try:
        return max(0.0, float(os.environ[name]))
    except (KeyError, ValueError):
        return default
