"""The training loop for the page: its lines, without or with their source."""

from __future__ import annotations

from seismograd.diagnosis.verdict import Verdict
from seismograd.views.loop import LoopLine, read_loop


def loop_lines(verdict: Verdict, with_source: bool) -> dict[str, object]:
    """Return the calls with their site, how often each happened in how many steps, and the
    positions of the findings about them; what no line called has the site -1.
    """
    loop = read_loop(verdict.run, verdict.findings)

    def flat(line: LoopLine) -> dict[str, object]:
        return {
            "kind": line.kind.name,
            "site": line.site,
            "count": line.count,
            "findings": [verdict.findings.index(each) for each in line.findings],
            "source": line.place.text if with_source and line.place is not None else "",
        }

    return {"steps": loop.num_steps, "lines": [flat(line) for line in loop.lines]}
