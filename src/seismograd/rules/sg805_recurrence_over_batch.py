"""SG805 recurrence-over-batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.analysis.mended_argument import with_flag
from seismograd.analysis.mixed_sample_words import words_of_mixed_samples
from seismograd.diagnosis.fact_rule import FactRule
from seismograd.i18n import Message, say
from seismograd.schema import Evidence, Fact, FactKind


@final
@dataclass
class RecurrenceOverBatch(FactRule):
    """A recurrent layer takes the samples of a batch for the steps of a sequence.

    What it finds
        `nn.LSTM`, `nn.GRU` and `nn.RNN` expect time first, (steps, samples, features), unless they
        have `batch_first=True`. With (samples, steps, features) they run over the samples: each one
        gets the state of the one before it, and none sees its own past. Or the final states of
        several layers or of both directions, (layers, samples, features), become rows of samples by
        a view alone, which mixes the samples.

    Why it hurts
        Nothing raises an error, for all shapes fit. What the network says of a sample depends on
        the others in its batch and not on its own sequence.

    How it decides
        The rule checks the graph of the loss, in the first backward passes of each line and less
        and less often later. One check is enough, from step number {min_evaluated} on, in two
        cases. Of the sequences that the layer ran over a single one is used, as when the last step
        is taken of the wrong dimension. Or the targets of a language model are the tokens that come
        next along one dimension, and the layer runs along the other one. So is one check where a
        view makes (samples, layers · features) of the state of a recurrent layer, or of a stack of
        what several layers gave, and the loss is a mean or a sum over as many samples.

    False alarms
        None known. Where the output is used as a whole and is no language model's, nothing is said,
        because both orders look alike. The same holds for a view of
        as many layers as samples.

    What to try
        - `nn.LSTM(…, batch_first=True)`.
        - Or `x.transpose(0, 1)` before the layer, and `output[-1]` behind it.
        - `h_n.transpose(0, 1).reshape(samples, -1)`, or `torch.cat([h_n[-2], h_n[-1]], 1)`.
        - Change one sample of a batch: the outputs for the others must stay as they are.

    References
        - PyTorch documentation, torch.nn.LSTM: batch_first.
    """

    code: ClassVar[str] = "SG805"
    name: ClassVar[str] = "recurrence-over-batch"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.RECURRENCE_AXIS,)
    takes_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.MIXED_SAMPLES,)
    absorbs: ClassVar[tuple[str, ...]] = ("SG101", "SG102")

    min_evaluated: int = 1  # steps

    def judge(self, fact: Fact) -> None:
        if fact.kind == FactKind.MIXED_SAMPLES:
            evidence = Evidence("mixed_samples", "", fact.iteration, fact.number("samples"), 0.0)
            self.found.add_or_extend(
                self.finding_of_fact(fact, *words_of_mixed_samples(fact), evidence=(evidence,))
            )
            return
        cause, advice, excerpt = _words(fact)
        self.found.add_or_extend(
            self.finding_of_fact(
                fact,
                cause,
                advice,
                excerpt,
                evidence=(
                    Evidence("recurrence_steps", "", fact.iteration, fact.number("steps"), 0.0),
                ),
            )
        )


def _words(fact: Fact) -> tuple[Message, Message, str]:
    layer = fact.text("layer")
    values: dict[str, str | int | float] = {
        "name": fact.text("name") or "?",
        "layer": layer,
        "steps": int(fact.number("steps")),
        "sequences": int(fact.number("sequences")),
    }
    if fact.number("selected"):
        cause = say(
            "{name} ({layer}) takes the first dimension for time: it ran over {steps} steps of "
            "{sequences} sequences, and only one of these is used, so what is meant to be time is "
            "the second dimension, and each sample gets the state of the one before it",
            **values,
        )
    else:
        cause = say(
            "{name} ({layer}) runs over the {steps} samples of a batch and not over the "
            "{sequences} tokens of each: the targets are the tokens that come next along the other "
            "dimension",
            **values,
        )
    is_first = bool(fact.number("batch_first"))
    mended = with_flag(fact.text("text"), layer, "batch_first", not is_first)
    if is_first:
        return (
            cause,
            say("leave out batch_first=True, or give it the samples first"),
            mended or f"nn.{layer}(…)  # (steps, samples, features)",
        )
    return (
        cause,
        say("pass batch_first=True, or transpose the input to (steps, samples, features)"),
        mended or f"nn.{layer}(…, batch_first=True)",
    )
