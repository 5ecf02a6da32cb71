"""The questions that a language model may ask of the runs in a folder. All only read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seismograd.diagnosis.verdict import judge
from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.printable import printable
from seismograd.record import strict_json
from seismograd.record.parameter_selection import find_parameters
from seismograd.record.pyramid.cells import PYRAMID_STATISTICS
from seismograd.record.reader import Run, open_run
from seismograd.schema import State
from seismograd.views import run_list
from seismograd.views.agents.bounded import answer_text
from seismograd.views.comparison_json import comparison_to_json
from seismograd.views.formats import diagnosis_json
from seismograd.views.parity.run_parity import compare_parity
from seismograd.views.rule_pages import explanation_json, find_rule
from seismograd.views.run_comparison import compare_runs
from seismograd.views.why import why_json
from seismograd.views.why.answer import find_answer

MOST_POINTS = 50
MOST_SERIES = 20


class RunQuestions:
    """Answers questions about the runs directly inside a folder, and about no other file.

    Args:
        folder: where runs are recorded.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def list_runs(self, limit: int = 20) -> str:
        """List the recorded runs, newest first: name, script, steps, last loss, number of
        findings, how it ended.
        """
        listed = run_list.find_runs(self._folder)
        return answer_text(
            {
                "folder": str(self._folder),
                "number_of_runs": len(listed),
                "runs": strict_json.loads(
                    run_list.as_json(listed[: max(0, min(limit, 50))]).encode()
                ),
            }
        )

    def findings(self, run: str = "") -> str:
        """Say what is wrong with a run (by its name; the newest if none is given): each finding
        with its cause, advice, steps, parameters and evidence, and how the training went.
        """
        verdict = judge(self._opened(run))
        content = strict_json.loads(diagnosis_json.render(verdict).encode())
        rules = content.pop("rules")
        content["rules_not_evaluated"] = [
            each for each in rules if each["status"] == "not evaluated"
        ]
        content["rules_clear"] = [each["code"] for each in rules if each["status"] == "clear"]
        return answer_text(content)

    def series(
        self,
        run: str = "",
        statistic: str = "grad_norm",
        params: Sequence[str] = ("*",),
        first_step: int = 0,
        last_step: int = -1,
        points: int = 50,
    ) -> str:
        """Return the course of grad_norm, applied_norm or update_ratio of parameters that match
        patterns such as "fc1.*": for each point, a range of rows, the lowest and the highest
        number, and the worst state there. `last_step` -1 is the end; 20 parameters and 50 points
        at most.
        """
        opened = self._opened(run)
        if statistic not in PYRAMID_STATISTICS:
            raise SeismogradError(
                say("no series is kept of {name}", name=repr(printable(statistic[:100]))),
                say("available names: {names}", names=", ".join(PYRAMID_STATISTICS)),
            )
        columns = find_parameters(opened.parameters, list(params))
        stop = opened.num_rows if last_step < 0 else min(last_step + 1, opened.num_rows)
        start = max(0, min(first_step, stop))
        view = opened.levels.parameters(
            statistic, start, stop, max(1, min(points, MOST_POINTS)), columns[:MOST_SERIES]
        )
        states = tuple(State)
        return answer_text(
            {
                "run": opened.path.name,
                "statistic": statistic,
                "steps": [
                    [int(a), int(b) - 1] for a, b in zip(view.starts, view.stops, strict=True)
                ],
                "parameters_left_out": max(0, len(columns) - MOST_SERIES),
                "series": {
                    opened.parameters[column].name: {
                        "low": _numbers(view.low[:, at]),
                        "high": _numbers(view.high[:, at]),
                        "state": [
                            states[int(np.flatnonzero(found).max(initial=0))].name.lower()
                            for found in view.counts[:, :, at]
                        ],
                    }
                    for at, column in enumerate(columns[:MOST_SERIES])
                },
            }
        )

    def why(self, run: str = "", step: int = -1, params: Sequence[str] = ()) -> str:
        """Say in one answer why a training went wrong: findings, where the first number that is
        not finite arose, what each layer does to the signal, what changed shortly before. `step`
        -1: where the most harmful finding begins.
        """
        opened = self._opened(run)
        answer = find_answer(opened, None if step < 0 else step, list(params))
        return answer_text(strict_json.loads(why_json.render(answer).encode()))

    def compare(self, first: str, second: str, step: int = -1) -> str:
        """Compare two runs: findings that only one has, from which step on their gradients differ,
        and by which factor. `step` -1: the first that differs.
        """
        runs = self._opened(first), self._opened(second)
        parity = compare_parity(*runs, step=None if step < 0 else step)
        found = compare_runs(*runs)
        return answer_text(strict_json.loads(comparison_to_json(found, parity).encode()))

    def explain(self, rule: str) -> str:
        """Explain a rule by its code or name, such as SG101: what it finds, how it decides, when
        it can be wrong, what to try.
        """
        return answer_text(strict_json.loads(explanation_json(find_rule(rule)).encode()))

    def _opened(self, name: str) -> Run:
        """Return the run of this name in the folder; the newest where there is no name.

        Raises:
            SeismogradError: there is none; a path that leads elsewhere is no name.
        """
        listed = run_list.find_runs(self._folder)
        for each in listed:
            if each.run is not None and name in ("", each.path.name):
                return each.run
        if any(each.path.name == name for each in listed):
            return open_run(self._folder / name)  # which says why it cannot be read
        raise SeismogradError(
            say("there is no run named {name}", name=repr(printable(name[:100]))),
            say(
                "the newest are {names}",
                names=", ".join(printable(each.path.name[:100]) for each in listed[:5]),
            ),
        )


def _numbers(values: object) -> list[float | None]:
    """Return numbers of four digits, null for none."""
    return [None if np.isnan(each) else float(f"{each:.4g}") for each in np.asarray(values, float)]
