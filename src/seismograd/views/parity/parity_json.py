"""How the gradients of two runs compare, as JSON."""

from __future__ import annotations

from typing import Any

from seismograd.views.parity.parity_words import details, headline
from seismograd.views.parity.run_parity import RunParity
from seismograd.views.values import STATE_CODES


def parity_to_json(parity: RunParity) -> dict[str, Any]:
    """Return all of it; non-finite numbers are left to the encoder."""
    return {
        "outcome": parity.outcome,
        "headline": headline(parity),
        "details": list(details(parity)),
        "step": None if parity.step < 0 else parity.step,
        "steps_before_that_are_the_same": parity.found.num_same,
        "first_parameter": None if parity.culprit is None else parity.culprit.name,
        "factor": parity.factor,
        "known_factors": [
            {"value": each.value, "code": each.code, "reason": each.reason.render()}
            for each in parity.reasons
        ],
        "tolerance": {"norm": parity.tolerance.norm, "difference": parity.tolerance.distance},
        "parameters": [
            {
                "name": each.name,
                "compared": each.difference,
                "states": [STATE_CODES[each.first.state], STATE_CODES[each.second.state]],
                "norms": [each.first.norm, each.second.norm],
                "ratio": each.ratio,
                "cosine": each.cosine,
                "difference": each.distance,
            }
            for each in parity.parameters
        ],
        "sketched_steps": [
            {
                "step": each.step,
                "cosine": each.cosine,
                "difference": each.distance,
                "cosine_with_the_sketched_step_before": list(each.before),
            }
            for each in parity.sketched
        ],
    }
