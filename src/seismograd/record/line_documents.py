"""Convert what is one line of a file of a run: sites, optimizers, subjects, notes and facts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seismograd.record.finding_json import message_from_json, message_to_json
from seismograd.record.strict_json import number
from seismograd.record.validation import build, fields_of, mapping, text
from seismograd.schema import Fact, Note, Optimizer, SampleSubject, Site


def lines_to_json(values: Sequence[Site] | Sequence[Optimizer]) -> list[object]:
    """Return one object per site or optimizer."""
    return [fields_of(value) for value in values]


def site_from_json(data: Any) -> Site:
    """Return the site in a line of `sites.jsonl`."""
    return build(Site, data)


def optimizer_from_json(data: Any) -> Optimizer:
    """Return the optimizer in a line of `optimizers.jsonl`."""
    return build(Optimizer, data)


def subject_to_json(subject: SampleSubject) -> dict[str, object]:
    """Return a line of `samples/subjects.jsonl`."""
    return fields_of(subject)


def subject_from_json(data: Any) -> SampleSubject:
    """Return the subject that `subject_to_json` wrote."""
    return build(SampleSubject, data)


def note_to_json(note: Note) -> dict[str, object]:
    """Return a line of `notes.jsonl`."""
    return {**fields_of(note), "message": message_to_json(note.message)}


def note_from_json(data: Any) -> Note:
    """Return the note that `note_to_json` wrote."""
    return build(Note, data, message=message_from_json(data["message"]))


def fact_to_json(fact: Fact) -> dict[str, object]:
    """Return a line of `facts.jsonl`. NaN and infinities, which JSON lacks, are distinguished from
    text.
    """
    numbers = {name: value for name, value in fact.values.items() if not isinstance(value, str)}
    words = {name: value for name, value in fact.values.items() if isinstance(value, str)}
    fields = fields_of(fact)
    del fields["values"]
    return {**fields, "numbers": numbers, "words": words}


def fact_from_json(data: Any) -> Fact:
    """Return the fact that `fact_to_json` wrote."""
    numbers = {text(name): number(value) for name, value in mapping(data["numbers"]).items()}
    words = {text(name): text(value) for name, value in mapping(data["words"]).items()}
    return build(Fact, data, values={**numbers, **words})
