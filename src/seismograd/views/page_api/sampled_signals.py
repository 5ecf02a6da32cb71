"""The signals of modules for the page: the calls of the sampled step nearest to a row."""

from __future__ import annotations

import numpy as np

from seismograd.record.reader import Run
from seismograd.schema import AnyArray, FloatArray
from seismograd.views.module_signals import ModuleSignals, read_nearest
from seismograd.views.page_api.packing import pack
from seismograd.views.page_api.translations import in_all_languages
from seismograd.views.signal_words import signal_sentences

FIELDS = ("rms", "zeros", "saturated", "signal_rms")


def answer_signals(run: Run, row: int) -> bytes:
    """Return the N calls of modules in the order of execution: of each field its values (N,) and,
    as `FIELD.measured` (N,), which of them were measured; `factor`, NaN off the chain.

    Where nothing was sampled the step is -1.
    """
    steps = run.row_reader.steps(row, row + 1)["iteration"]
    signals = read_nearest(run, int(steps[0])) if len(steps) else None
    if signals is None:
        return pack({"step": -1, "modules": [], "said": []})
    arrays: dict[str, AnyArray] = {
        "factor": np.array([each.factor for each in signals.rows], np.float64)
    }
    for name in FIELDS:
        values = [each.numbers[name] for each in signals.rows]
        arrays[name] = _numbers(values)
        arrays[f"{name}.measured"] = np.array([each is not None for each in values], np.uint8)
    header = {
        "step": signals.step,
        "modules": [[each.name, each.subject.type] for each in signals.rows],
        "said": _said(signals),
    }
    return pack(header, arrays)


def _numbers(values: list[float | None]) -> FloatArray:
    return np.array([np.nan if each is None else each for each in values], np.float64)


def _said(signals: ModuleSignals) -> list[dict[str, str]]:
    """Return the sentences, each in every language."""

    def sentences_at(at: int) -> dict[str, str]:
        return in_all_languages(lambda: tuple(signal_sentences(signals))[at])

    return [sentences_at(at) for at in range(len(tuple(signal_sentences(signals))))]
