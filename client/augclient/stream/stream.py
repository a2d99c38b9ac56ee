"""The iterator that the trainer holds."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from augclient.errors import StateError
from augclient.stream.batch import Batch
from augclient.stream.buffers import BufferPool
from augclient.stream.road import RoadStatistics
from augclient.stream.spec import StreamSpec

_NOTICED_SHARE = 0.05  # of the time; less would not be felt, and a batch that is there already takes some microseconds as well


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStatistics:
    """What a stream's batches cost in time and memory.

    Attributes:
        batches: delivered by this stream.
        waiting_s: time that the trainer waited in next(), without the first batch, which comes when the server has begun.
        elapsed_s: time from the first batch to the last one delivered, waiting and training.
        allocated, free: buffers of its own, ever made, and those that lie free.
        shared: batches that came in shared memory; `copied` of them into buffers, because more than have a lease were held.
        held: leases that have not ended.
    """

    batches: int
    waiting_s: float
    elapsed_s: float
    allocated: int
    free: int
    shared: int
    copied: int
    held: int

    @property
    def waiting_share(self) -> float:
        """Share of its time that the trainer waited for data, 0 to 1; 0 before the second batch."""
        return self.waiting_s / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def limited_by(self) -> str:
        """The verdict: "data" where the trainer waits for more than a twentieth of its time, else "trainer"; "" before the second batch.

        What of the data is slow, the server's log says each minute.
        """
        return "" if not self.elapsed_s else "data" if self.waiting_share > _NOTICED_SHARE else "trainer"


class Receiving(Protocol):
    """What receives the batches of a stream ahead, from one server or several."""

    def take(self) -> Batch | None:
        """Wait for the next batch; None after the last one or after close(); what ended the stream is raised on every further call."""

    def close(self) -> None:
        """Stop receiving and drop what was not taken; any thread, any number of times."""


class Roads(Protocol):
    """Over which batches come: a Road, or those of a fleet."""

    @property
    def taken(self) -> str | None:
        """ "local", "grpc", or None before the first call."""

    @property
    def reason(self) -> str:
        """Why, for people."""

    def statistics(self) -> RoadStatistics:
        """Counters at this moment."""

    def close(self) -> None:
        """Let go of connections."""


class Stream(Iterator[Batch]):
    """Batches of a spec, in order, each exactly once; an iterator and a context manager.

    A batch counts as delivered when next() has returned it. A background thread receives ahead from the first next() on; it ends
    with the stream: at the last batch, by close() or `with`, on an error, or when the stream is garbage. next() may be
    interrupted by Ctrl-C and called again. Not for several threads at once.
    """

    def __init__(
        self,
        spec: StreamSpec,
        receive: Callable[[int, BufferPool], Receiving],
        road: Roads,
        *,
        state: Mapping[str, Any] | None,
        prefetch: int,
    ) -> None:
        """`receive` begins to receive the batches of `spec` from a step on, `prefetch` of them ahead, on memory of the pool or the road."""
        self._spec = spec
        self._step = spec.start if state is None else spec.step_of(state)
        # in use at most: `prefetch` received, the one the trainer holds, and the one it held while it asked for that
        self._pool = BufferPool(keep=prefetch + 2)
        self._receive = receive
        self._road = road
        self._receiver: Receiving | None = None
        self._closed = False
        self._batches = 0
        self._first_at = self._last_at = 0.0  # when the first and the last batch were delivered, of those so far
        self._waiting_s = 0.0

    @property
    def next_step(self) -> int:
        """Number of the next undelivered batch."""
        return self._step

    @property
    def transport(self) -> str | None:
        """The road that batches take now: "local" (shared memory) or "grpc"; None before the first one was asked for."""
        return self._road.taken

    @property
    def transport_reason(self) -> str:
        """Why that road, and why not the faster one."""
        return self._road.reason

    @property
    def patch(self) -> tuple[int, int, int]:
        """(Z, Y, X) of every batch."""
        return self._spec.patch

    @property
    def stop(self) -> int | None:
        """The step that the stream ends before; None: endless."""
        return self._spec.stop

    def __next__(self) -> Batch:
        """Wait for the next batch.

        Raises:
            StopIteration: all steps were delivered.
            UnavailableError: the server stayed away for longer than reconnect_s.
            StateError: the stream is closed, or the server came back with another dataset.
            AugError: what the server answered.
        """
        if self._at_end():
            self.close()
            raise StopIteration
        if self._closed:
            raise StateError(f"the stream is closed, at batch {self._step}; server.stream(..., state=stream.state_dict()) goes on")
        if self._receiver is None:
            self._receiver = self._start()
            if self._closed:  # by another thread, which saw no receiver yet
                self._receiver.close()
        asked_at = time.monotonic()
        try:
            batch = self._receiver.take()
        except Exception:
            self.close()
            raise
        if batch is None:
            raise StateError(f"the stream was closed while it waited for batch {self._step}")
        self._step = batch.step + self._spec.stride
        self._count(asked_at)
        return batch

    def state_dict(self) -> dict[str, Any]:
        """A small JSON-able token; `server.stream(..., state=token)` goes on at the next undelivered batch."""
        return self._spec.token(self._step)

    def close(self) -> None:
        """End the stream and its thread, and cancel the call; twice is fine. Batches taken before stay valid."""
        self._closed = True
        if self._receiver is not None:
            self._receiver.close()
        self._road.close()

    def statistics(self) -> StreamStatistics:
        """Counters at this moment."""
        pool, road = self._pool.statistics(), self._road.statistics()
        return StreamStatistics(
            batches=self._batches,
            waiting_s=self._waiting_s,
            elapsed_s=self._last_at - self._first_at,
            allocated=pool.allocated,
            free=pool.free,
            shared=road.shared,
            copied=road.copied,
            held=road.held,
        )

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _count(self, asked_at: float) -> None:
        self._last_at = time.monotonic()
        self._batches += 1
        if self._batches == 1:
            self._first_at = self._last_at
        else:
            self._waiting_s += self._last_at - asked_at

    def _at_end(self) -> bool:
        return self._spec.stop is not None and self._step >= self._spec.stop

    def _start(self) -> Receiving:
        receiver = self._receive(self._step, self._pool)
        weakref.finalize(self, receiver.close)  # also at the interpreter's exit
        return receiver
