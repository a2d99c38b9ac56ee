"""Whole batches on their way from the threads that receive them to the trainer, in order, each exactly once.

    receiver's threads --put()--> ready --popleft()--> Stream --> trainer         <-- wait() says which batch the trainer asks for

An interrupt (Ctrl-C) hits the trainer's thread between any two bytecodes. So the trainer's side waits in one call into C, writes single
attributes, and takes no lock, which an interrupt could leave taken. What it cannot make whole it can see: a batch that was taken out
and never reached the trainer is missing at the next wait(), which says so, and the stream receives it again by its number.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from augclient.stream.batch import Batch


class BatchLost(Exception):
    """The batch was taken out before, by a next() that was interrupted before it could return it."""


class Bell:
    """Wakes one thread that waits; rung by any thread, without a lock."""

    def __init__(self) -> None:
        self._rung: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ring(self) -> None:
        """Let wait() return, now or when it is called next."""
        if self._rung.empty():
            self._rung.put(None)

    def wait(self, timeout_s: float | None) -> None:
        """Wait until it is rung; None: for ever. It may return for a ring of long ago: look before you wait, and again after."""
        with suppress(queue.Empty):
            self._rung.get(timeout=timeout_s)


class HandOver:
    """Batches first, first + stride, ..., at most `prefetch` of them received before they are asked for.

    Attributes:
        ready: received and not taken out, oldest first. Its popleft(), after wait() said yes, is all of taking a batch.
        closing: whether the trainer wants no more.
    """

    def __init__(self, first: int, stride: int, prefetch: int) -> None:
        self.ready: deque[Batch] = deque()
        self.closing = False
        self._ended = False
        self._error: Exception | None = None
        self._wanted = first  # what the trainer asked for last
        self._received = first  # the step behind the last one that was put
        self._stride = stride
        self._prefetch = prefetch
        self._news = Bell()  # for the trainer
        self._bells: list[Bell] = []  # of the threads that receive

    # The threads that receive call these.

    def may_receive(self, step: int) -> bool:
        """Whether there is room for batch `step`, beside the one that the trainer asks for or holds."""
        return step <= self._wanted + self._prefetch * self._stride

    def make_bell(self) -> Bell:
        """What rings whenever may_receive() may have become true, or `closing`."""
        bell = Bell()
        self._bells.append(bell)
        return bell

    def drop_bell(self, bell: Bell) -> None:
        """Its thread has ended."""
        self._bells.remove(bell)

    def put(self, batch: Batch) -> None:
        """The next batch."""
        if not self.closing:
            self.ready.append(batch)
            self._received = batch.step + self._stride
            self._news.ring()

    def end(self, error: Exception | None) -> None:
        """Nothing more comes; `error` says why, None: that was the last batch, or the stream is closing."""
        self._error = error
        self._ended = True
        self._news.ring()

    # The trainer calls these.

    def close(self) -> None:
        """Drop what was received; wait() says no from now on. Any thread, any number of times."""
        self.closing = True
        self.ready.clear()
        self._news.ring()
        self._ring_bells()

    def ask_for(self, step: int) -> None:
        """The batches before `step` are the trainer's."""
        self._wanted = step
        self._ring_bells()

    def wait(self, step: int, timeout_s: Callable[[], float | None]) -> bool:
        """Wait until batch `step` is the first of `ready`; False: nothing more comes.

        Args:
            timeout_s: asked before every wait how long it may last at most; None: for ever.
        Raises:
            BatchLost: it was taken out before. AugError: what ended the stream; again on every further call.
        """
        while not self.closing:
            ended, received = self._ended, self._received  # before the look into `ready`: what was put by then lies there
            due = self._first_ready(received)
            if due == step and self.ready:
                return True
            if due != step and not self.closing:
                raise BatchLost
            if ended:
                if self._error is not None:
                    raise self._error
                break
            self._news.wait(timeout_s())
        return False

    def _first_ready(self, received: int) -> int:
        """The batch that comes out next; none is ready: the one that comes in next."""
        try:
            return self.ready[0].step
        except IndexError:
            return received

    def _ring_bells(self) -> None:
        for bell in tuple(self._bells):
            bell.ring()
