"""What the layers and the steps in time of a sampled step do to the signal, as sentences."""

from __future__ import annotations

from collections.abc import Iterator

from seismograd.analysis.signal_in_time import SignalInTime
from seismograd.analysis.split_words import advice_of, cause_of
from seismograd.i18n import translate
from seismograd.views.module_signals import ModuleSignals
from seismograd.views.values import number

KEPT = 0.5, 2.0  # gains between which a signal keeps its size


def signal_sentences(signals: ModuleSignals) -> Iterator[str]:
    """Yield what each recurrent module does, what each layer does, and what would keep the size."""
    yield from (time_words(each) for each in signals.in_time)
    if signals.split is not None:
        yield sentence(cause_of(signals.split).render())
        if not KEPT[0] <= signals.split.gain <= KEPT[1]:
            yield sentence(advice_of(signals.split).render())


def sentence(text: str) -> str:
    """Return a statement as a sentence of its own."""
    end = "" if text.endswith(("。", ".", ")")) else translate(".")
    return text[:1].upper() + text[1:] + end


def time_words(signal: SignalInTime) -> str:
    """Return what the steps of a recurrent module do to the signal."""
    return translate(
        "{module} ({kind}): each of {steps} steps back in time multiplies the signal by {gain}; "
        "{total} of it reaches the first."
    ).format(
        module=signal.module,
        kind=signal.type,
        steps=signal.num_steps,
        gain=number(signal.gain, 2),
        total=number(signal.total, 2),
    )
