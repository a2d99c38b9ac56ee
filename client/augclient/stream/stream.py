"""The iterator that the trainer holds."""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from augclient.errors import StateError
from augclient.stream.batch import Batch
from augclient.stream.buffers import BufferPool
from augclient.stream.hand_over import BatchLost
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
    """What receives the batches of a stream ahead, from one server or several; see HandOver."""

    @property
    def ready(self) -> deque[Batch]:
        """Received and not taken out, oldest first."""

    def start(self) -> None:
        """Begin; again after an interrupt: only one thread receives."""

    def wait(self, step: int) -> bool:
        """Wait until batch `step` is the first of `ready`; False after close(). What ended the stream is raised on every further call."""

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


class _Delivery:
    """The state of a stream. It knows nothing of the Stream, so that a forgotten one can be collected, which ends this.

    Attributes:
        step: the next undelivered batch; `offered` is the one that a next() is about to return, or has returned.
        convert: makes of a batch what next() returns; it is asked again if that is interrupted.
        when_closed: what close() calls, each once.
    """

    def __init__(self, spec: StreamSpec, receive: Callable[[int, BufferPool], Receiving], road: Roads, step: int, prefetch: int) -> None:
        self.spec = spec
        self.road = road
        # in use at most: `prefetch` received, the one the trainer holds, and the one it held while it asked for that
        self.pool = BufferPool(keep=prefetch + 2)
        self.first = self.step = self.offered = step
        self.convert: Callable[[Batch], Any] | None = None
        self.when_closed: list[Callable[[], None]] = []
        self.first_at = self.last_at = 0.0  # when the first and the last batch were delivered, of those so far
        self.waiting_s = 0.0
        self._receive = receive
        self._receiver: Receiving | None = None
        self._closed = False

    @property
    def at_end(self) -> bool:
        """Whether all was delivered."""
        return self.spec.stop is not None and self.step >= self.spec.stop

    def take(self) -> Any:
        """Wait for batch `step` and take it out, as the last thing that is done here."""
        if self._closed:
            raise StateError(f"the stream is closed, at batch {self.step}; server.stream(..., state=stream.state_dict()) goes on")
        asked_at = time.monotonic()
        try:
            receiver = self._wait()
        except Exception:
            self.close()
            raise
        try:
            batch = receiver.ready[0]
            given = batch if self.convert is None else self.convert(batch)
            self._count(asked_at)
            self.offered = self.step
            receiver.ready.popleft()
        except IndexError:  # another thread closed the stream just now
            raise StateError(f"the stream was closed while it waited for batch {self.step}") from None
        return given

    def close(self) -> None:
        """See Stream."""
        self._closed = True
        if self._receiver is not None:
            self._receiver.close()
        self.road.close()
        while self.when_closed:
            self.when_closed.pop()()

    def _wait(self) -> Receiving:
        """Wait until batch `step` is the first one of the receiver that is returned."""
        while True:
            if self._receiver is None:
                self._receiver = self._receive(self.step, self.pool)
            receiver = self._receiver
            receiver.start()
            if self._closed:  # by another thread, which saw no receiver yet
                receiver.close()
            try:
                if receiver.wait(self.step):
                    return receiver
                if self._closed:
                    raise StateError(f"the stream was closed while it waited for batch {self.step}")
            except BatchLost:
                pass
            # Lost, or this was interrupted here before: the receiver is closing, and another one takes its place.
            receiver.close()
            self._receiver = None

    def _count(self, asked_at: float) -> None:
        self.last_at = time.monotonic()
        if not self.first_at:
            self.first_at = self.last_at
        else:
            self.waiting_s += self.last_at - asked_at


def _offers(delivery: _Delivery) -> Any:
    """A generator of what next() returns; it stays suspended in `yield` exactly if the last one has reached the trainer."""
    while not delivery.at_end:
        yield delivery.take()
    delivery.close()


class Progress:
    """How far the trainer came; outlives the Stream that it is of."""

    def __init__(self, delivery: _Delivery) -> None:
        self._delivery = delivery
        self._offers = _offers(delivery)

    @property
    def next_step(self) -> int:
        """Number of the next undelivered batch."""
        return self._delivery.offered + self._delivery.spec.stride if self._offers.gi_suspended else self._delivery.step

    def deliver(self) -> Callable[[], Any]:
        """What gives the next batch to the trainer."""
        self._delivery.step = self.next_step
        if self._offers.gi_frame is None:  # it ended with an error or an interrupt
            self._offers = _offers(self._delivery)
        give: Callable[[], Any] = self._offers.__next__
        return give


class Stream(Iterator[Batch]):
    """Batches of a spec, in order, each exactly once; an iterator and a context manager.

    A batch counts as delivered when next() has returned it. A background thread receives ahead from the first next() on; it ends
    with the stream: at the last batch, by close() or `with`, on an error, or when the stream is garbage. next() may be interrupted by
    Ctrl-C anywhere and called again: what it did not return comes then. Not for several threads at once.
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
        """`receive` makes what receives the batches of `spec` from a step on, `prefetch` ahead, on memory of the pool or the road."""
        self._delivery = _Delivery(spec, receive, road, spec.start if state is None else spec.step_of(state), prefetch)
        self.progress = Progress(self._delivery)
        weakref.finalize(self, self._delivery.close)  # also at the interpreter's exit

    @property
    def next_step(self) -> int:
        """Number of the next undelivered batch."""
        return self.progress.next_step

    @property
    def transport(self) -> str | None:
        """The road that batches take now: "local" (shared memory) or "grpc"; None before the first one was asked for."""
        return self._delivery.road.taken

    @property
    def transport_reason(self) -> str:
        """Why that road, and why not the faster one."""
        return self._delivery.road.reason

    @property
    def patch(self) -> tuple[int, int, int]:
        """(Z, Y, X) of every batch."""
        return self._delivery.spec.patch

    @property
    def stop(self) -> int | None:
        """The step that the stream ends before; None: endless."""
        return self._delivery.spec.stop

    @property
    def __next__(self) -> Callable[[], Any]:
        """Wait for the next batch.

        A property, so that the generator's own __next__, which is in C, gives the batch to the trainer: no bytecode of ours lies between
        its being delivered and its being counted as such, and none of ours can be interrupted there.

        Raises:
            StopIteration: all steps were delivered.
            UnavailableError: the server stayed away for longer than reconnect_s.
            StateError: the stream is closed, or the server came back with another dataset.
            AugError: what the server answered.
        """
        return self.progress.deliver()

    def deliver_as(self, convert: Callable[[Batch], Any], when_closed: Callable[[], None]) -> None:
        """For adapters, before the first next(): let it return what `convert` makes of a batch; `when_closed` is called once."""
        self._delivery.convert = convert
        self._delivery.when_closed.append(when_closed)

    def state_dict(self) -> dict[str, Any]:
        """A small JSON-able token; `server.stream(..., state=token)` goes on at the next undelivered batch."""
        return self._delivery.spec.token(self.next_step)

    def close(self) -> None:
        """End the stream and its thread, and cancel the call; twice is fine. Batches taken before stay valid."""
        self._delivery.close()

    def statistics(self) -> StreamStatistics:
        """Counters at this moment."""
        delivery = self._delivery
        pool, road = delivery.pool.statistics(), delivery.road.statistics()
        return StreamStatistics(
            batches=(self.next_step - delivery.first) // delivery.spec.stride,
            waiting_s=delivery.waiting_s,
            elapsed_s=delivery.last_at - delivery.first_at,
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
