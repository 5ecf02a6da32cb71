"""Carry data from the training thread to the sinks: rows wait in a bounded queue and leave in
blocks, on a thread of their own.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from seismograd.pipeline.batch import (
    Queued,
    batch_bytes,
    block_limit,
    rows_together,
    sample_bytes,
    take_batches,
)
from seismograd.pipeline.sketch_samples import sketch_samples
from seismograd.schema import Fact, Note, RowBatch, SampleBatch, Sink, concatenate

_NOTE_BYTES = 1024
_PATIENCE_S = 60.0
_POLL_S = 0.005
_WHILE_ADAPTING = 8  # times as many bytes may wait: a record that goes on is read once


class Pump:
    """Hands rows, notes and facts to sinks in order, and never makes the training wait for one.

    A sink that raises is reported once and skipped from then on. When the sinks cannot keep up and
    the queue is full, rows are dropped and counted in `dropped`. At most `max_bytes` wait or are
    being handed on, plus half as much in the block being processed.

    Args:
        sinks: they get the blocks, one after the other.
        sites: the places that events point to; the owner appends to it.
        optimizers: likewise.
        on_failure: called with the class name of a sink and what it raised, on the pump's thread.
        interval_s: seconds between two batches, unless a block is full before, or half the queue.
        max_bytes: memory that waiting rows may take.
        synchronous: hand on each row at once, on the calling thread.
        look: called on the pump's thread before each batch: what waits elsewhere may be put now.
        adapt: returns what the sinks get of each thing, on the pump's thread; `None`: nothing. It
            may take long once: more may wait meanwhile.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        on_failure: Callable[[str, BaseException], None],
        interval_s: float = 1.0,
        max_bytes: int = 32 * 2**20,
        synchronous: bool = False,
        look: Callable[[], None] = lambda: None,
        adapt: Callable[[Queued], Queued | None] = lambda item: item,
    ) -> None:
        self._sinks = list(sinks)
        self._adapt, self._is_adapting = adapt, False
        self._on_failure = on_failure
        self._interval_s = interval_s
        self._max_bytes = max_bytes
        self._synchronous = synchronous
        self._look = look
        # Between callers of `put` only. The pump's thread never takes it, and it is reentrant: a
        # signal handler may close the run in the middle of a put.
        self._lock = threading.RLock()
        self._queue: deque[Queued] = deque()
        self._bytes_in = 0  # written under the lock
        # written by the pump's thread alone, as are the next two
        self._bytes_out = 0
        self._bytes_in_hand = 0  # of the block that the sinks are given now
        self._has_observed = False  # any rows
        self._num_rounds = 0
        self._num_not_made = 0
        self._num_refused = 0
        self._wake = threading.Event()
        self._closed = False
        self._finished = False
        self._thread: threading.Thread | None = None
        # Kept here as well: where the disk is full they reach no sink.
        self.failures: list[Note] = []

    @property
    def dropped(self) -> int:
        """Return how many rows no sink got because the queue was full."""
        return self._num_refused + self._num_not_made

    def begin(self) -> None:
        """Start calling `look` for rows that wait elsewhere; otherwise that begins with the first
        row or note.
        """
        with self._lock:
            if self._thread is None and not self._closed and not self._synchronous:
                self._start()

    def put(self, batch: RowBatch) -> None:
        """Queue a batch, behind the sketches of its rows, or drop it when the queue is full. Does
        nothing after `close`.
        """
        if batch.sketches:
            for sketches in sketch_samples(batch):
                self.sampled(sketches)
            batch = replace(batch, sketches={})
        num_bytes = batch_bytes(batch)
        with self._lock:
            if self._closed:
                return
            waiting = self._bytes_in - self._bytes_out
            # A single row may exceed the limit: otherwise a model of that size would have no record
            # at all.
            most = self._max_bytes * (_WHILE_ADAPTING if self._is_adapting else 1)
            if waiting and waiting + num_bytes > most:
                self._num_refused += len(batch)
                return
            enough = block_limit(batch, self._max_bytes)
            self._enqueue(batch, num_bytes, enough - num_bytes)

    def note(self, note: Note) -> None:
        """Queue a note. Notes are few: they have reserved space behind a full queue."""
        if note.kind == "failure":
            self.failures.append(note)
        with self._lock:
            if not self._closed and self._bytes_in - self._bytes_out < 2 * self._max_bytes:
                self._enqueue(note, _NOTE_BYTES)

    def learn(self, fact: Fact) -> None:
        """Queue a fact, like a note. Without sinks there is no reason to start a thread."""
        with self._lock:
            if (
                self._sinks
                and not self._closed
                and self._bytes_in - self._bytes_out < 2 * self._max_bytes
            ):
                self._enqueue(fact, _NOTE_BYTES)

    def sampled(self, batch: SampleBatch) -> None:
        """Queue what was sampled in a step, or leave it out when the queue is full."""
        num_bytes = sample_bytes(batch)
        with self._lock:
            waiting = self._bytes_in - self._bytes_out
            if (
                self._sinks
                and not self._closed
                and (not waiting or waiting + num_bytes <= self._max_bytes)
            ):
                self._enqueue(batch, num_bytes)

    def drain(self, patience_s: float = 5.0) -> None:
        """Wait until what waits now has been handed on, but no longer than that."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        end, last = time.monotonic() + patience_s, self._num_rounds + 2
        # Two rounds: the one that goes on may have begun before.
        while self._num_rounds < last and thread.is_alive() and time.monotonic() < end:
            self._wake.set()
            time.sleep(_POLL_S)

    def close(self) -> None:
        """Drain the queue, close the sinks and end the thread; a second call does nothing. Call it
        before the interpreter shuts down.

        A sink that makes no progress for a minute is abandoned and reported, so that a dead disk
        does not keep the process from ending.
        """
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is None:
            self._finish()
        elif thread is not threading.current_thread():
            self._wake.set()
            self._join(thread)

    def abandon(self) -> None:
        """Forget everything and touch no file: this is a forked child. The parent goes on
        undisturbed.
        """
        self._closed = self._finished = True
        self._lock = threading.RLock()  # another thread of the parent may have held it at the fork
        self._queue = deque()
        self._thread = None

    def _enqueue(self, item: Queued, num_bytes: int, enough: int | None = None) -> None:
        """Queue an item; what waits does not become more than `enough` bytes."""
        self._queue.append(item)
        self._bytes_in += num_bytes
        if self._synchronous:
            self._hand_on()
        elif self._thread is None:
            self._start()
        # Not for what is being handed on: what came meanwhile would be a block of its own.
        elif self._bytes_in - self._bytes_out - self._bytes_in_hand > (
            self._max_bytes // 2 if enough is None else enough
        ):
            self._wake.set()

    def _start(self) -> None:
        """Start the thread, but only when there is something for it: a process that merely starts
        others, which train, never has one.
        """
        # A daemon: a sink that hangs must not keep the process from ending. `close` drains what
        # waits while the interpreter is still whole.
        self._thread = threading.Thread(target=self._run, name="seismograd-pump", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no more threads allowed, or the interpreter is shutting down
            self._thread, self._synchronous = None, True
            self._hand_on()

    def _run(self) -> None:
        # Wakes up by itself as well: rows that wait in the session become due without any call.
        while not self._closed:
            self._wake.wait(self._interval_s)
            self._wake.clear()
            self._look()
            self._hand_on()
            self._num_rounds += 1
        self._finish()

    def _finish(self) -> None:
        if self._finished:
            return
        while self._queue:
            self._hand_on()
        self._finished = True
        self._each(lambda sink: sink.close())

    def _hand_on(self) -> None:
        """Hand on what waits now; later arrivals wait for the next time, so that batches stay
        large.
        """
        num_items = len(self._queue)
        if self._has_observed:  # with the first row a record is opened
            # only this thread takes from the queue, and others add at its end
            taken = [self._queue.popleft() for _ in range(num_items)]
            self._queue.extendleft(reversed(rows_together(taken)))
        while num_items > 0:
            num_items -= self._hand_on_next()

    def _hand_on_next(self) -> int:
        """Hand on the first note or fact, or the rows of the first batch; return how many items
        that took.
        """
        first = self._queue[0]
        if isinstance(first, Note):
            self._queue.popleft()
            self._each(lambda sink: sink.note(first))
            self._bytes_out += _NOTE_BYTES
            return 1
        if isinstance(first, Fact):
            self._queue.popleft()
            self._hand(first)
            self._bytes_out += _NOTE_BYTES
            return 1
        if isinstance(first, SampleBatch):
            self._queue.popleft()
            self._hand(first)
            self._bytes_out += sample_bytes(first)
            return 1
        batches = take_batches(self._queue, block_limit(first, self._max_bytes))
        self._has_observed = True
        num_bytes = self._bytes_in_hand = sum(map(batch_bytes, batches))
        num_batches = len(batches)
        self._observe(batches)
        self._bytes_out += num_bytes
        self._bytes_in_hand = 0
        return num_batches

    def _observe(self, batches: list[RowBatch]) -> None:
        num_rows = sum(map(len, batches))
        try:
            whole = concatenate(batches)
        # Such as memory that has run out: the rows are lost and counted, and the next may do.
        except Exception as error:
            self._num_not_made += num_rows
            self._on_failure(type(self).__name__, error)
        else:
            batches.clear()  # the sinks get what was made of them
            self._hand(whole)

    def _hand(self, item: Queued) -> None:
        """Hand on rows, a fact or a sample as the sinks are to get it."""
        self._is_adapting = True
        try:
            adapted = self._adapt(item)
        except Exception as error:
            self._num_not_made += len(item) if isinstance(item, RowBatch) else 0
            self._on_failure(type(self).__name__, error)
            return
        finally:
            self._is_adapting = False
        if isinstance(adapted, RowBatch):
            self._each(lambda sink: sink.observe(adapted))
        elif isinstance(adapted, SampleBatch):
            self._each(lambda sink: sink.sampled(adapted))
        elif isinstance(adapted, Fact):
            self._each(lambda sink: sink.learn(adapted))

    def _each(self, call: Callable[[Sink], None]) -> None:
        for sink in tuple(self._sinks):
            try:
                call(sink)
            except Exception as error:
                self._sinks.remove(sink)
                self._on_failure(type(sink).__name__, error)
                with suppress(Exception):  # the sink is broken: what it reports now is of no use
                    sink.abandon()

    def _join(self, thread: threading.Thread) -> None:
        while thread.is_alive():
            # By progress and not by time: a slow disk may have much to write, a dead one takes
            # nothing.
            before = self._bytes_out
            thread.join(_PATIENCE_S)
            if thread.is_alive() and self._bytes_out == before:
                self._on_failure(
                    type(self).__name__, TimeoutError(f"nothing was taken for {_PATIENCE_S:.0f} s")
                )
                return
