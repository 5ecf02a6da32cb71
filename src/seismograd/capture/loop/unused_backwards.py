"""Report at the end the backwards that no step has used."""

from __future__ import annotations

from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.thread_state import ThreadStates
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.i18n import Message, say
from seismograd.schema import FactKind, Note

MAX_NAMES = 64


def report_never_stepped(
    facts: Facts,
    registry: OptimizerRegistry,
    log: EventLog,
    thread_states: ThreadStates,
    num_heard: int,
) -> None:
    """Report each optimizer that has gradients and was never stepped, and parameters that nobody
    has updated.
    """
    stepped = [window for window in registry if window.was_stepped]
    gone = [] if any(each.was_stepped for each in registry.left()) else registry.left()
    site = log.last_backward_site(thread_states.all())
    for window in (*registry, *gone):
        if (
            window.was_stepped
            or window.stepping
            or not window.num_heard
            or (stepped if window in gone else _is_covered(window, stepped))
            or window.unstepped.look(registry.held_beside(window))  # hooks update them
        ):
            continue
        if window not in gone:
            registry.learn(window)
        names = [
            each.name
            for each in registry.parameter_table.parameters
            if each.optimizer == window.index
        ]
        facts.report(
            FactKind.NEVER_STEPPED,
            site=site,
            optimizer=window.index,
            parameters=names[:MAX_NAMES],
            held_by="optimizer",
            name=window.name,
            backwards=window.num_heard,
            num=len(names),
            stepped=", ".join(each.name for each in stepped),
        )
    by_hand = registry.by_hand
    if not stepped and not any(window.num_heard for window in registry) and by_hand.num_unmoved():
        facts.report(
            FactKind.NEVER_STEPPED,
            site=site,
            held_by="nobody",
            name="",
            backwards=min(by_hand.num_unmoved() + 1, num_heard),
            num=by_hand.num_leaves(),
            stepped="",
        )


def unused(registry: OptimizerRegistry) -> OptimizerWindow | None:
    """Return the window with the most backwards that no step has used, not even that of another
    optimizer over the same parameters.
    """
    left = [
        window
        for window in registry
        if window.was_stepped and not window.stepping and window.num_unused()
    ]
    for window in sorted(left, key=lambda each: -each.num_unused()):
        later = [
            other
            for other in registry
            if other.was_stepped and other.num_unused() < window.num_unused()
        ]
        if not _is_covered(window, later):
            return window
    gone = [window for window in registry.left() if window.was_stepped and window.num_unused()]
    return max(gone, key=lambda window: window.num_unused(), default=None)


def closing_note(
    left: OptimizerWindow | None, num_rows: int, num_heard: int, last_backward: str
) -> Note | None:
    """Return the note of a run that made no step, or of backwards that no step has used.

    Args:
        left: the window that `unused` found, before the last iterations left the queue.
        num_rows: how many rows the run has.
        num_heard: how many backwards were intercepted.
        last_backward: the line of the last one.
    """
    if not num_rows:
        return Note("no_step", -1, _why_no_step(num_heard))
    if left is None:
        return None
    count = left.num_unused()
    message = say(
        "backward passes after the last step() whose gradients no step() used: {count}",
        count=count,
    )
    return Note("tail", num_rows, message, count, left.index, last_backward)


def _why_no_step(num_heard: int) -> Message:
    if num_heard:
        return say(
            "optimizer.step() was never called; calls to backward(): {count}", count=num_heard
        )
    return say("neither backward() nor optimizer.step() was ever called")


def _is_covered(window: OptimizerWindow, stepped: list[OptimizerWindow]) -> bool:
    """Return whether other optimizers step on everything that it holds."""
    others = {id(parameter) for other in stepped for parameter in other.held()}
    return all(id(parameter) in others for parameter in window.held())
