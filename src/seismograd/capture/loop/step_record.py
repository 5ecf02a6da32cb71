"""Make the record of one step: what the optimizer was given, and what only its end shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.iteration import GradientReading, OptimizerStep
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.parameter_groups import groups_of, setting
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.probes.probed_updates import ProbedUpdates
from seismograd.capture.rows.window_columns import NO_COLUMNS, carried_columns
from seismograd.schema import EventFlag, EventKind, StepFlag
from seismograd.tensors.device_scalars import Scalar

# arithmetic on flags takes a microsecond, on numbers none
NO_BACKWARD, SKIPPED = int(StepFlag.NO_BACKWARD), int(StepFlag.SKIPPED)
USED, EMPTY, CLOSURE = int(EventFlag.USED), int(EventFlag.EMPTY), int(EventFlag.CLOSURE)


def record_step(
    log: EventLog,
    parameter_table: ParameterTable,
    thread_state: ThreadState,
    window: OptimizerWindow,
    optimizer: object,
    flags: StepFlag,
    applied: GradientReading | None,
) -> None:
    """Add a step that begins, or that a scaler skipped, to the iteration, and its event to the log.

    `applied`: the gradients as read again, where the clips do not show what is consumed.
    """
    own = vars(optimizer)
    groups: Any = own.get("param_groups")
    window.was_stepped = True
    rate: object = None
    if type(groups) is list and len(groups) == 1 and type(groups[0]) is dict:  # pyright: ignore
        rate = groups[0].get("lr")  # pyright: ignore
    if isinstance(rate, float):
        lr = lowest = Scalar(rate)
    else:
        lr, lowest = _learning_rates(log, groups_of(optimizer))
    captured = log.record(
        thread_state,
        EventKind.STEP,
        window.index,
        value=lr,
        limit=lowest,
        scale=window.grad_scale,
    )
    captured.touched = window.bit
    if own.get("grad_scale") is not None:
        captured.flags |= EventFlag.FUSED
    if thread_state.loss is not None:
        captured.flags |= EventFlag.CLOSURE
    number = int(flags)
    if number & NO_BACKWARD:
        captured.flags |= EMPTY if all(p.grad is None for p in window.held()) else USED
    backwards = window.num_backwards + (thread_state.loss is not None)
    carried = (
        NO_COLUMNS
        if number & (NO_BACKWARD | SKIPPED) or True not in window.clearing.carried
        else carried_columns(window, parameter_table)
    )
    step = OptimizerStep(
        window.index,
        window.num_steps,
        lr,
        backwards,
        flags,
        carried,
        tuple(window.clips),
        window.ready,
        applied,
    )
    thread_state.iteration.steps.append(step)
    window.step, window.step_heard = step, captured


def complete_step(
    window: OptimizerWindow, step: OptimizerStep, probed: ProbedUpdates | None
) -> None:
    """Add what only the end of the step shows: what its closure computed, and what happened to
    it within the step.
    """
    step.probed, step.reading, step.clips = probed, window.ready, tuple(window.clips)
    if window.evaluated:
        step.num_backwards = window.num_backwards
    else:
        step.num_backwards = max(step.num_backwards, window.num_backwards)
    step.applied = window.applied or step.applied
    if window.carried is not None:
        step.carried = window.carried
    captured = window.step_heard
    made_unheard = (
        window.closure
        and not window.evaluated
        and int(step.flags) & NO_BACKWARD
        and window.clearing.at_step()[1]
    )
    # the closure set the gradients without a backward, as by `torch.autograd.grad`
    if made_unheard and captured is not None:
        step.flags = StepFlag.NONE
        captured.flags = captured.flags & ~(USED | EMPTY) | CLOSURE


def _learning_rates(log: EventLog, groups: Sequence[Mapping[str, Any]]) -> tuple[Scalar, Scalar]:
    """Return the rate of the first group, and the lowest of all groups."""
    first = setting(groups[0], "lr") if groups else None
    lr = lowest = Scalar(first) if type(first) is float else log.scalar(first)
    if len(groups) > 1:
        rates = [rate for group in groups if isinstance(rate := setting(group, "lr"), int | float)]
        lowest = log.scalar(min(rates)) if rates else lr
    return lr, lowest
