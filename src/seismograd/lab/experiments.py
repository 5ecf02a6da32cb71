"""The experiments by name. Their dependencies are loaded when one runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from seismograd.errors import SeismogradError
from seismograd.i18n import mark, say
from seismograd.lab.lab_page import Page


@dataclass(frozen=True, slots=True)
class Experiment:
    """The name of an experiment, a sentence about it, and how to run it."""

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
        mark("What a gradient is: one number per weight, checked against the slope of the loss."),
        _gradients,
    ),
    Experiment(
        "chain",
        mark("Why gradients vanish or explode, all scalars together, and what changes that."),
        _chain,
    ),
    Experiment(
        "accumulation",
        mark(
            "Four small batches in place of one large batch: when the result is the same, and how "
            "wrong it is otherwise."
        ),
        _accumulation,
    ),
    Experiment(
        "zero-grad",
        mark(
            "Why gradients are cleared, and what happens if this is left out or done in the wrong "
            "place."
        ),
        _zero_grad,
    ),
    Experiment(
        "losses",
        mark(
            "Two losses, backpropagated separately and together: how strongly each one pulls, and "
            "in which direction."
        ),
        _losses,
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
