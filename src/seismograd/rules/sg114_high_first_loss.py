"""SG114 high-first-loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.analysis.script_names import in_script
from seismograd.diagnosis.fact_rule import FactRule
from seismograd.diagnosis.rule import Explanation, known, memory
from seismograd.i18n import Message, Values, say
from seismograd.schema import Evidence, Fact, FactKind


@final
@dataclass
class HighFirstLoss(FactRule):
    """The first loss of a classifier is far above what guessing gives: its logits are too large
    from the start.

    What it finds
        A cross entropy whose first value is several times ln K, the loss of a guess among K
        classes: an output layer tied to an embedding that still has its first weights of standard
        deviation 1; inputs from 0 to 255; sums over neighbours that no one divides by their number,
        so that the signal grows from layer to layer; a last layer with weights that are too large.

    Why it hurts
        The network is certain of its answers before it has learned anything, and mostly wrong. The
        first steps only make the logits smaller, the gradients are large and governed by a few
        samples, and where the inputs or the layers are to blame, training stays slow or unsteady.
        The loss falls far, so it looks like learning.

    How it decides
        The rule computes the cross entropy from the logarithms of the probabilities that the loss
        saved, without weights of classes, whatever the reduction, before the first update. It
        counts if it is at least {min_times:g} times ln K and at least {min_above:g} above it, and
        the graph shows the last layer and where the size comes from: the weights of the
        last layer, which multiply a signal by {large_gain:g} or more (the root mean square of a
        weight times the root of the number of inputs; torch begins with about a half), its inputs,
        or the data, with a root mean square of {large_input:g} or more, or a signal that has grown
        by {large_growth:g} or more since the first layer.

    False alarms
        A network that was trained before may be certain of wrong answers, on other data or other
        classes: no run is judged into which weights were loaded with `load_state_dict` before. Some
        programs set them in another way. Logits that are cosines times a scale, or are masked, do
        not count.

    What to try
        - `nn.init.normal_(embedding.weight, std=0.02)` for an embedding that is tied to the output.
        - Divide inputs of 0 to 255 by 255, or subtract their mean and divide by their deviation.
        - Divide the adjacency by the degrees, D^-1/2 (A + I) D^-1/2, or average over neighbours.
        - Make the last layer's weights smaller, or set them to zero: the first loss is ln K then.
        - Print the loss before the first step, and compare it with math.log(K).

    References
        - Karpathy (2019), A Recipe for Training Neural Networks: "verify loss @ init".
        - Kipf, Welling (2017), Semi-Supervised Classification with Graph Convolutional Networks.
        - Radford et al. (2018), Improving Language Understanding by Generative Pre-Training.
    """

    code: ClassVar[str] = "SG114"
    name: ClassVar[str] = "high-first-loss"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.FIRST_LOSS,)

    min_times: float = 3.0
    min_above: float = 3.0
    large_gain: float = 3.0
    large_input: float = 10.0
    large_growth: float = 5.0

    _seen: bool = memory(bool)

    def judge(self, fact: Fact) -> None:
        loss, guess = fact.number("loss"), math.log(fact.number("classes"))
        least = max(self.min_times * guess, guess + self.min_above)
        if self._seen or fact.iteration > 0 or not loss >= least:
            return
        explanation = self._explain(fact)
        if explanation is None:
            return
        self._seen = True
        step, name = fact.iteration, fact.parameters[0]
        evidence = known(
            Evidence("loss", "", step, loss, least),
            Evidence("weight_rms", name, step, fact.number("head"), math.nan),
        )
        self.found.add(
            self.finding(
                *explanation,
                first_step=step,
                parameters=fact.parameters,
                evidence=evidence,
                where=fact.where,
                seen_only=True,
            )
        )

    def _explain(self, fact: Fact) -> Explanation | None:
        gain = fact.number("head") * math.sqrt(fact.number("fan_in"))
        features, inputs = fact.number("features"), fact.number("inputs")
        growth = fact.number("spread") / inputs
        values: Values = {
            "loss": fact.number("loss"),
            "classes": int(fact.number("classes")),
            "guess": math.log(fact.number("classes")),
            "spread": fact.number("spread"),
            "weight": fact.parameters[0],
            "head": fact.number("head"),
            "gain": gain,
            "features": features,
            "inputs": inputs,
            "layers": int(fact.number("layers")),
            "growth": growth,
        }
        if gain >= self.large_gain and fact.number("tied"):
            return _tied(values)
        if inputs >= self.large_input:
            return _inputs(values)
        if gain >= self.large_gain:
            return _head(values)
        if growth >= self.large_growth:
            return _growth(values)
        if features >= self.large_input:
            return _features(values)
        return None


def _start(values: Values) -> Message:
    return say(
        "the first loss is {loss:.3g}, where a guess among {classes} classes gives {guess:.3g}: "
        "before anything is learned, the logits of a sample lie {spread:.3g} apart (standard "
        "deviation)",
        **values,
    )


def _tied(values: Values) -> Explanation:
    return (
        say(
            "{start}, because {weight} is the embedding and the last layer at once, and its "
            "weights have a root mean square of {head:.2g}, as nn.Embedding begins: as a layer it "
            "multiplies the signal by {gain:.2g}",
            start=_start(values),
            **values,
        ),
        say(
            "initialise the tied weight with a standard deviation of 0.02, as GPT-2 does, or "
            "multiply the logits by 1 / sqrt(width)"
        ),
        f"nn.init.normal_({in_script(str(values['weight']))}, std=0.02)",
    )


def _inputs(values: Values) -> Explanation:
    return (
        say(
            "{start}, because the inputs of the first layer are large: their root mean square is "
            "{inputs:.3g}",
            start=_start(values),
            **values,
        ),
        say(
            "bring the inputs to a mean of 0 and a standard deviation of about 1 with numbers of "
            "the training data; images of 0 to 255 are divided by 255 first"
        ),
        "x = (x - mean) / std",
    )


def _head(values: Values) -> Explanation:
    return (
        say(
            "{start}, because the weights of the last layer are large: {weight} has a root mean "
            "square of {head:.2g} and multiplies the signal by {gain:.2g}",
            start=_start(values),
            **values,
        ),
        say(
            "initialise the last layer with smaller weights, with a standard deviation of 0.02 or "
            "as nn.Linear does"
        ),
        f"nn.init.normal_({in_script(str(values['weight']))}, std=0.02)",
    )


def _growth(values: Values) -> Explanation:
    return (
        say(
            "{start}, because the signal grows on its way: it enters the first layer with a root "
            "mean square of {inputs:.3g}, and the logits are {growth:.3g} times that after "
            "{layers} layers",
            start=_start(values),
            **values,
        ),
        say(
            "keep the signal at one size: where a layer sums over neighbours, positions or "
            "channels, divide by their number (D^-1/2 (A + I) D^-1/2 in a graph); else "
            "initialise the weights for the activation, or add a normalisation layer"
        ),
        "a = a / (a.sum(1, keepdim=True) * a.sum(0, keepdim=True)).sqrt()",
    )


def _features(values: Values) -> Explanation:
    return (
        say(
            "{start}, because what goes into the last layer, {weight}, is large: its root mean "
            "square is {features:.3g}",
            start=_start(values),
            **values,
        ),
        say(
            "add a normalisation layer before the last layer, or initialise the weights of those "
            "before it, or the embedding, with a smaller standard deviation"
        ),
        "nn.LayerNorm(width), nn.Linear(width, classes)",
    )
