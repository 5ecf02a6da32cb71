"""Describe the condition of the record: it is still growing, was torn, or something failed."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from rich.text import Text

from seismograd.i18n import translate
from seismograd.record.reader import Run
from seismograd.views.values import sentences, steps

QUIET_NOTES = ("end",)


"""Kinds of notes that are no news."""


DATED_NOTES = ("halted",)


"""Kinds of notes whose message says at which step."""


def condition(run: Run, already_shown: Collection[str] = ()) -> Iterator[Text]:
    """Return a line for each thing to know about the record: it is still growing or was cut off,
    something is torn, something of ours failed.

    Skips notes of the kinds that are `already_shown` elsewhere.
    """
    return (as_note(text) for text in condition_texts(run, already_shown))


def condition_texts(run: Run, already_shown: Collection[str] = ()) -> Iterator[str]:
    """Return the same as plain texts."""
    if not run.ended:
        yield translate("the run has not ended: it is still running, or it was killed")
    if run.torn is not None:
        yield run.torn.render()
    for note in run.notes:
        if note.kind not in QUIET_NOTES and note.kind not in already_shown:
            is_dated = note.iteration < 0 or note.kind in DATED_NOTES
            yield sentences(
                (note.message.render(), "" if is_dated else steps(note.iteration, note.iteration))
            )


def as_note(text: str) -> Text:
    """Return a line that a reader takes for a note, not for a result."""
    return Text(translate("note: {text}").format(text=text), style="yellow")
