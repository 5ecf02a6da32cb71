"""Describe the condition of the record: it is still growing, was torn, or something failed."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from rich.text import Text

from seismograd.i18n import Message, mark, say, translate
from seismograd.record.reader import Run
from seismograd.record.run_activity import is_going_on
from seismograd.schema import APART, ENDINGS
from seismograd.views.guarded_updates import guarded_lines
from seismograd.views.values import sentences, steps

QUIET_NOTES = ("end", "xray")
"""Kinds of notes that are no news."""

DATED_NOTES = ("halted", "element", "resumed")
"""Kinds of notes whose message says at which step, or to which no step belongs."""

ERROR_NOTES = ("element", "crashed")
"""Kinds of notes about what went wrong, rather than what a reader should bear in mind."""

_ENDS = {
    "halted": mark("halted"),
    "crashed": mark("crashed"),
    "failed": mark("failed"),
    "interrupted": mark("interrupted"),
    "damaged": mark("damaged"),
    "killed at once": mark("killed before its first step"),
    "not ended": mark("not ended"),
    "no steps": mark("no steps"),
    "complete": mark("complete"),
}


def end_code(run: Run) -> str:
    """Return how a run ended: `"complete"` where the training came to its own end and a step of it
    was recorded.
    """
    if not run.ended:
        return "killed at once" if _was_killed_at_once(run) else "not ended"
    if run.torn is not None or run.damage is not None:
        return "damaged"
    kinds = [note.kind for note in run.notes]
    while "resumed" in kinds:  # an end before that was none
        kinds = kinds[kinds.index("resumed") + 1 :]
    ending = next((kind for kind in ENDINGS if kind in kinds), None)
    return ending or ("complete" if run.num_rows else "no steps")


def _was_killed_at_once(run: Run) -> bool:
    """Return whether a run has neither a step nor an end, and nothing has been written for long."""
    return not run.num_rows and not is_going_on(run.path) and why_apart(run) is None


def why_apart(run: Run) -> Message | None:
    """Return why a run has no steps, but the reports of one of several processes; `None` for any
    other run.
    """
    return next((note.message for note in run.notes if note.kind == APART), None)


def why_nothing(run: Run) -> Message:
    """Return why a run that has not ended has no step."""
    if _was_killed_at_once(run):
        return say("the run was killed before its first step was recorded")
    return say("no step is recorded yet: the run has just begun, or it was killed")


def end_word(code: str) -> str:
    """Return how a run ended in the current language."""
    return translate(_ENDS[code])


def condition(run: Run, already_shown: Collection[str] = ()) -> Iterator[Text]:
    """Return a line for each thing to know about the record: it is still growing or was cut off,
    something is torn, something of ours failed.

    Skips notes of the kinds that are `already_shown` elsewhere.
    """
    if not run.ended and run.num_rows:
        yield note_line(translate("the run has not ended: it is still running, or it was killed"))
    elif not run.ended and why_apart(run) is None:
        line = error_line if _was_killed_at_once(run) else note_line
        yield line(why_nothing(run).render())
    if run.torn is not None:
        yield note_line(run.torn.render())
    if run.damage is not None:
        yield note_line(run.damage.render())
    if run.not_kept is not None:
        yield note_line(run.not_kept.render())
    for note in run.notes:
        if note.kind not in QUIET_NOTES and note.kind not in already_shown:
            is_dated = note.iteration < 0 or note.kind in DATED_NOTES
            text = sentences(
                (note.message.render(), "" if is_dated else steps(note.iteration, note.iteration))
            )
            yield error_line(text) if note.kind in ERROR_NOTES else note_line(text)
    yield from map(note_line, guarded_lines(run))


def error_line(text: str) -> Text:
    """Return a line about what went wrong."""
    return Text(translate("error: {text}").format(text=text), style="red")


def note_line(text: str) -> Text:
    """Return a line about what a reader should bear in mind."""
    return Text(translate("note: {text}").format(text=text), style="yellow")
