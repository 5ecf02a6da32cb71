"""The experiments by name. Their dependencies are loaded when one runs."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import cast

from seismograd.errors import SeismogradError
from seismograd.i18n import mark, say
from seismograd.lab.lab_page import Page


@dataclass(frozen=True, slots=True)
class Experiment:
    """The name of an experiment, a sentence about it, and the modules that measure and describe
    it: `lab.measurements.NAME_experiment` and `lab.pages.NAME_page`.
    """

    name: str
    summary: str

    def run(self) -> Page:
        """Measure, and return the page of what was measured."""
        module = self.name.replace("-", "_")
        # torch is only loaded for the experiment that was asked for.
        experiment = import_module(f"seismograd.lab.measurements.{module}_experiment")
        page = import_module(f"seismograd.lab.pages.{module}_page")
        return cast("Page", page.describe(experiment.measure()))


EXPERIMENTS = (
    Experiment(
        "gradients",
        mark("What a gradient is: one number per weight, checked against the slope of the loss."),
    ),
    Experiment(
        "norm",
        mark("Whether a norm is healthy: why no absolute number says so, and what a norm hides."),
    ),
    Experiment(
        "chain",
        mark("Why gradients vanish or explode, all scalars together, and what changes that."),
    ),
    Experiment(
        "clipping",
        mark(
            "What clipping does: one factor for every scalar, its direction kept, and when it "
            "helps."
        ),
    ),
    Experiment(
        "zero-grad",
        mark(
            "Why gradients are cleared, and what happens if this is left out or done in the wrong "
            "place."
        ),
    ),
    Experiment(
        "accumulation",
        mark(
            "Four small batches in place of one large batch: when the result is the same, and how "
            "wrong it is otherwise."
        ),
    ),
    Experiment(
        "losses",
        mark(
            "Two losses, backpropagated separately and together: how strongly each one pulls, and "
            "in which direction."
        ),
    ),
)


def find_experiment(name: str) -> Experiment:
    """Return the experiment of that name; `zero_grad` is `zero-grad`.

    Raises:
        SeismogradError: there is none.
    """
    wanted = name.lower().replace("_", "-")
    for experiment in EXPERIMENTS:
        if experiment.name == wanted:
            return experiment
    raise SeismogradError(
        say("unknown experiment {name}", name=repr(name)),
        say("available experiments: {names}", names=", ".join(e.name for e in EXPERIMENTS)),
    )
