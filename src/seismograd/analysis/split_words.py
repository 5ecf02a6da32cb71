"""Say in words what the layers do to the signal, and what to change for it to keep its size."""

from __future__ import annotations

import math

from seismograd.analysis.signal_split import SignalSplit
from seismograd.i18n import Message, say
from seismograd.schema import Evidence

MOSTLY_SATURATED = 0.3  # share of an activation's scalars
PASSES_LITTLE = 0.6  # a factor; ReLU, which is "saturated" in half of its scalars, passes more on
CLOSE = 0.1  # how far a factor may be from 1 and not be named
RELU = 0.5**0.5  # what ReLU passes on: half of the scalars
KEEPS = 0.8  # a factor with which a signal reaches the first of a few layers


def cause_of(split: SignalSplit) -> Message:
    """Return by how much each layer multiplies the signal, and what of it is the activation's."""
    values: dict[str, str | int | float | Message] = {
        "layers": split.num_layers,
        "gain": split.gain,
        "factors": factors(split),
        "total": split.total,
        "parameter": f"{split.first}.weight",
        "sums": split.num_sums,
    }
    if split.num_sums:
        return say(
            "each of {layers} layers multiplies the signal by {gain:.2g}: {factors}; {total:.2g} "
            "of it reaches {parameter}, past {sums} {sums:residual branch|residual branches}",
            **values,
        )
    if split.total > 1:
        return say(
            "each of {layers} layers multiplies the signal by {gain:.2g}: {factors}; at "
            "{parameter} it is {total:.2g} times as large",
            **values,
        )
    return say(
        "each of {layers} layers multiplies the signal by {gain:.2g}: {factors}; {total:.2g} of "
        "it reaches {parameter}",
        **values,
    )


def factors(split: SignalSplit) -> Message:
    """Return the factors of a layer, such as `sigmoid 0.22 × weights 0.64`."""
    has_rest = abs(split.by_rest - 1) > CLOSE
    values: dict[str, str | int | float | Message] = {
        "activation": split.activation.lower(),
        "by_activation": split.by_activation,
        "by_weights": split.by_weights,
        "by_rest": split.by_rest,
    }
    if split.activation and has_rest:
        return say(
            "{activation} {by_activation:.2g} × weights {by_weights:.2g} × other modules "
            "{by_rest:.2g}",
            **values,
        )
    if split.activation:
        return say("{activation} {by_activation:.2g} × weights {by_weights:.2g}", **values)
    if has_rest:
        return say("weights {by_weights:.2g} × other modules {by_rest:.2g}", **values)
    return say("weights {by_weights:.2g}", **values)


def advice_of(split: SignalSplit) -> Message:
    """Return what would make the product 1."""
    values: dict[str, str | int | float | Message] = {
        "activation": split.activation.lower(),
        "gain": split.init_gain,
        "scale": split.scale,
        "saturated": f"{100 * split.saturated:.0f}%" if not math.isnan(split.saturated) else "",
    }
    if is_saturated(split):
        return say(
            "{saturated} of what {activation} returns is saturated and passes nothing on: put a "
            "normalisation before it (nn.LayerNorm), make the weights smaller, or use GELU or ReLU",
            **values,
        )
    if is_of_the_activation(split):
        left = RELU * split.by_weights * split.by_rest
        if left >= KEEPS:
            return say(
                "use an activation that passes more on in place of {activation}, such as GELU or "
                "ReLU; or add residual connections, x = x + block(x)",
                **values,
            )
        return say(
            "put nn.LayerNorm and an activation that passes more on, such as GELU or ReLU, in "
            "place of {activation}; or add residual connections, x = x + block(x). ReLU alone is "
            "not enough, for with these weights each layer would still multiply the signal by "
            "{left:.2g}: initialise them for it (nn.init.kaiming_normal_)",
            left=left,
            **values,
        )
    if split.gain < 1:
        return say(
            "make the weights {scale:.2g} times as large: nn.init.xavier_normal_(layer.weight, "
            "gain={gain:.2g}) keeps the size of the signal; a normalisation after each layer "
            "(nn.LayerNorm) or residual connections, x = x + block(x), do so too",
            **values,
        )
    return say(
        "make the weights {scale:.2g} times as large as they are: nn.init.xavier_normal_("
        "layer.weight, gain={gain:.2g}) keeps the size of the signal; a normalisation after each "
        "layer (nn.LayerNorm) does so too",
        **values,
    )


def excerpt_of(split: SignalSplit) -> str:
    """Return a line that does what the advice names first."""
    if is_saturated(split) or is_of_the_activation(split):
        return "nn.Linear(width, width), nn.LayerNorm(width), nn.GELU()"
    return f"nn.init.xavier_normal_(layer.weight, gain={split.init_gain:.3g})"


def is_saturated(split: SignalSplit) -> bool:
    """Return whether the signal is lost where activations are saturated."""
    is_cause = split.by_activation < PASSES_LITTLE
    return split.gain < 1 and is_cause and split.saturated > MOSTLY_SATURATED


def is_of_the_activation(split: SignalSplit) -> bool:
    """Return whether the activation takes more of the signal than the weights do."""
    return split.gain < 1 and split.by_activation < split.by_weights


def signal_evidence(split: SignalSplit | None, max_gain: float) -> tuple[Evidence, ...]:
    """Return what was measured of the signals, with the factor that a rule allows a layer."""
    if split is None:
        return ()
    return (
        Evidence("signal_gain", "", split.step, split.gain, max_gain),
        Evidence("gain_by_activation", "", split.step, split.by_activation, 1.0),
        Evidence("gain_by_weights", "", split.step, split.by_weights, 1.0),
    )
