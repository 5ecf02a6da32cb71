"""One step as JSON; non-finite numbers are the strings `nan`, `inf` or `-inf`, unmeasured ones
null.
"""

from __future__ import annotations

from seismograd.record import strict_json
from seismograd.schema import SCHEMA_VERSION
from seismograd.views.step import GradientNumbers, RecordedStep
from seismograd.views.values import STATE_CODES


def render(step: RecordedStep) -> str:
    """Return the step, its numbers and its gradients."""
    content: dict[str, object] = {
        "schema": SCHEMA_VERSION,
        "run": str(step.run.path),
        "step": step.iteration,
        "epoch": step.epoch,
        "loss": None if step.loss is None else step.loss,
        "lr": step.lr,
        "grad_norm": step.grad_norm,
        "parameters": [_gradient(each) for each in step.gradients],
    }
    if step.states:
        content["optimizer_states"] = [
            {"name": each.parameter, "step": each.step, **each.numbers} for each in step.states
        ]
    return strict_json.dumps(content, indent=2).decode()


def _gradient(gradient: GradientNumbers) -> dict[str, object]:
    measured = gradient.measured
    return {
        "name": gradient.parameter.name,
        "shape": list(gradient.parameter.shape),
        "dtype": gradient.parameter.dtype,
        "numel": gradient.parameter.numel,
        "state": STATE_CODES[gradient.state],
        "norm": gradient.norm if measured else None,
        "rms": gradient.rms if measured else None,
        "max": gradient.maximum if measured else None,
        "zeros": gradient.zeros if measured else None,
        "nonfinite": gradient.nonfinite if measured else None,
    }
