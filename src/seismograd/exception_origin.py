"""Decide whose an exception is that arises while our code runs: ours, which the training must not
see, or the program's, which it must.
"""

from __future__ import annotations

import inspect
import opcode
import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType

OURS = frozenset(
    {"seismograd", "torch", "functorch", "numpy", "triton", "safetensors", *sys.stdlib_module_names}
)
RAISE = frozenset({opcode.opmap["RAISE_VARARGS"], opcode.opmap["RERAISE"]})
# what C code and torch raise without a message
BARE = (MemoryError, RecursionError, StopIteration, NotImplementedError, AssertionError)


def raised_by_user(error: BaseException) -> bool:
    """Return whether an exception that reached one of our frames goes on to the training, because
    it would have arrived without us, too.

    It does when it was thrown into our code and not raised by what our code called, and when it is
    no `Exception`. Signal handlers, trace functions and `PyThreadState_SetAsyncExc` throw into
    running code. The last leaves no frame: its exception is of a class that our code does not know,
    or comes without arguments at an instruction that raises none. Exceptions that the program's
    objects raise because we inspect them, as a tensor subclass in an operation that it does not
    support, would not have occurred without us, and stay here.
    """
    if not isinstance(error, Exception):
        return True
    frames = list(_frames(error.__traceback__))
    if any(map(_interrupts, frames)):
        return True
    if not frames:
        return False
    if _is_of_ours(frames[-1]) and not is_ours(type(error).__module__):
        return True
    return not error.args and not isinstance(error, BARE) and not _has_raised(error.__traceback__)


def let_go(error: BaseException) -> None:
    """Clear the variables of our frames in its traceback, so that what they hold is released now
    and not when the program drops the exception.
    """
    for frame in list(_frames(error.__traceback__)):
        if _is_of_ours(frame) and not _interrupts(frame):
            with suppress(RuntimeError):  # it is still running
                frame.clear()


@contextmanager
def left_out() -> Generator[None, None, None]:
    """Inside, a failure of ours ends the block and nothing else; the program's exceptions
    propagate.
    """
    try:
        yield
    except Exception as error:
        if raised_by_user(error):
            raise


def is_ours(module: str | None) -> bool:
    """Return whether a module of this name is ours, or one of our dependencies."""
    return module is not None and module.partition(".")[0] in OURS


def _frames(trace: TracebackType | None) -> Iterator[FrameType]:
    """Yield the frames from the one that caught it down to where it was raised."""
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def _is_of_ours(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__")
    return isinstance(name, str) and is_ours(name)


def _interrupts(frame: FrameType) -> bool:
    """Return whether this is a signal handler or a trace function: both receive the frame that they
    interrupt.
    """
    code = frame.f_code
    given = code.co_varnames[
        : code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & inspect.CO_VARARGS)
    ]
    values: list[object] = []
    for value in map(frame.f_locals.get, given):
        values.extend(value if type(value) is tuple else (value,))  # pyright: ignore[reportUnknownArgumentType]
    around = frame.f_back
    if around is not None and any(value is around for value in values):
        return True
    handlers = (signal.getsignal(number) for number in signal.valid_signals())
    return any(getattr(handler, "__code__", None) is code for handler in handlers)


def _has_raised(trace: TracebackType | None) -> bool:
    """Return whether the innermost frame was at an instruction that raises."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_code[trace.tb_lasti] in RAISE
