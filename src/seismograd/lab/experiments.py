"""The experiments by name. What they need is loaded when one runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from seismograd.errors import SeismogradError
from seismograd.i18n import mark, say
from seismograd.lab.lab_page import Page


@dataclass(frozen=True, slots=True)
class Experiment:
    """Its name, what it shows in a sentence, and how to run it."""

    name: str
    summary: str
    run: Callable[[], Page]


def _gradients() -> Page:
    from seismograd.lab import gradients_experiment

    return gradients_experiment.describe(gradients_experiment.measure())


def _chain() -> Page:
    from seismograd.lab import chain_experiment

    return chain_experiment.describe(chain_experiment.measure())


def _accumulation() -> Page:
    from seismograd.lab import accumulation_experiment

    return accumulation_experiment.describe(accumulation_experiment.measure())


def _zero_grad() -> Page:
    from seismograd.lab import zero_grad_experiment

    return zero_grad_experiment.describe(zero_grad_experiment.measure())


def _losses() -> Page:
    from seismograd.lab import losses_experiment

    return losses_experiment.describe(losses_experiment.measure())


EXPERIMENTS = (
    Experiment(
        "gradients",
        mark(
            "What a gradient is: one number for each weight, checked against the slope of the loss."
        ),
        _gradients,
    ),
    Experiment(
        "chain",
        mark("Why gradients vanish and explode, all scalars together, and what changes it."),
        _chain,
    ),
    Experiment(
        "accumulation",
        mark(
            "Four small batches instead of a large one: when it is the same, and how wrong it is "
            "else."
        ),
        _accumulation,
    ),
    Experiment(
        "zero-grad",
        mark("Why gradients are cleared, and what happens without it or in the wrong place."),
        _zero_grad,
    ),
    Experiment(
        "losses",
        mark("Two losses, backward apart and together: how large each pulls, and which way."),
        _losses,
    ),
)


def find_experiment(name: str) -> Experiment:
    """The experiment of that name; `zero_grad` is `zero-grad`.

    Raises:
        SeismogradError: there is none.
    """
    wanted = name.lower().replace("_", "-")
    for experiment in EXPERIMENTS:
        if experiment.name == wanted:
            return experiment
    raise SeismogradError(
        say("there is no experiment {name}", name=repr(name)),
        say("give one of {names}", names=", ".join(e.name for e in EXPERIMENTS)),
    )
