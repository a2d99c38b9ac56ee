"""Make batches ahead of the clients that will ask for them: bounded, in order, fair, and cancelled at once.

    stream A  step 7 (with the client) | 8 ready | 9 computing      <- look_ahead + 1 slots, then it pauses: back-pressure
    stream B  step 2 (with the client) | 3 computing
    runnable  A, B, A, B ...           <- a stream with a free slot and a step left stands here once; workers take the first

A worker makes one batch of the stream it takes and the stream goes to the end of the line, so streams share the kernel
equally however large their look-ahead. A step that fails ends its stream, at that step, after the batches before it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augserver.augment.sample import SampleParams
from augserver.errors import UnavailableError
from augserver.kernel import Backend
from augserver.pipeline.batch_compute import compute_batch
from augserver.pipeline.batch_layout import BatchLayout, Slot
from augserver.pipeline.batch_slots import SlotPool
from augserver.pipeline.plan import Plan
from augserver.pipeline.quarantine import Quarantine
from augserver.pipeline.slot_ring import SlotRing
from augserver.pipeline.stage_clock import StageClock
from augserver.pipeline.volume_cache import VolumeCache


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    """The batches of one stream.

    Attributes:
        plan: what each index means.
        layout: of one batch.
        indices: step -> the sample indices of that batch: layout.image_shape[0] or, of a share of it, fewer, even none.
        start, stop: steps, half open.
        stride: every how many of them one is made.
    """

    plan: Plan
    layout: BatchLayout
    indices: Callable[[int], Sequence[int]]
    start: int
    stop: int
    stride: int = 1

    @property
    def batches(self) -> int:
        """How many there are."""
        return -((self.start - self.stop) // self.stride)


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerStatistics:
    """Streams that are open, of them those with work to do, and batches made since the start."""

    streams: int
    runnable: int
    batches: int


@dataclass(eq=False, slots=True)
class _Job:
    """One step that a worker has taken."""

    step: int
    slot: Slot
    params: tuple[SampleParams, ...] = ()
    error: BaseException | None = None
    done: bool = False


class Batch:
    """A finished batch; its arrays are views of a slot and are valid until `release()`. A context manager."""

    def __init__(self, job: _Job, release: Callable[[Slot], None]) -> None:
        self.step = job.step
        self.params = job.params
        samples = len(job.params)
        self.image: NDArray[Any] = job.slot.image[:samples]
        self.label: NDArray[np.uint8] | None = None if job.slot.label is None else job.slot.label[:samples]
        self.offsets = job.slot.offset, job.slot.label_offset  # of image and label in shared memory
        self._slot: Slot | None = job.slot
        self._release = release

    def release(self) -> None:
        """Let the slot be overwritten; a second call does nothing."""
        slot, self._slot = self._slot, None
        if slot is not None:
            self._release(slot)

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()


class BatchStream:
    """The batches of one StreamSpec in order; made by `Scheduler.open`. One consumer; `close` may come from any thread.

    Attributes:
        ring: in which they lie; whoever lets another process map it holds it as long.
    """

    def __init__(self, scheduler: Scheduler, spec: StreamSpec, ring: SlotRing) -> None:
        self.ring = ring
        self._scheduler = scheduler
        self._spec = spec
        self._jobs: deque[_Job] = deque()  # oldest step first; finished or not
        self._next_step = spec.start
        self._delivered = spec.start
        self._ready = threading.Condition(scheduler.lock)
        self._closed = False
        self._failed = False

    def next_batch(self) -> Batch | None:
        """Wait for the next batch.

        Returns:
            The batch, to be released by the caller; None after the last one.
        Raises:
            UnavailableError: the stream was closed before its last batch.
            AugError: this step could not be made; the stream gives nothing more. Close it.
        """
        with self._scheduler.lock:
            while self._delivered < self._spec.stop:
                if self._closed:
                    raise UnavailableError("the stream was closed before its end: its call was cancelled, or the server is stopping")
                if self._jobs and self._jobs[0].done:
                    return self._deliver(self._jobs[0])
                # Without a job in the making there was no slot to make it in: the client holds them all.
                stage, began = "batch_wait" if self._jobs else "lease_wait", time.perf_counter()
                self._ready.wait()
                self._scheduler.clock.add(stage, time.perf_counter() - began)
            return None

    def close(self) -> None:
        """Stop making batches and give the memory back; a batch being made now gives its slot back when it ends."""
        with self._scheduler.lock:
            if self._closed:
                return
            self._closed = True
            self._jobs.clear()
            self._scheduler.forget(self)
            self._ready.notify_all()
        self.ring.let_go()

    def __enter__(self) -> BatchStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # What follows is for the scheduler; the scheduler's lock is held.

    def _deliver(self, job: _Job) -> Batch:
        if job.error is not None:
            raise job.error
        self._jobs.popleft()
        self._delivered += self._spec.stride
        self.ring.lease(job.slot)
        return Batch(job, self._take_back)

    def _take_back(self, slot: Slot) -> None:
        self.ring.give_back(slot)
        with self._scheduler.lock:
            self._scheduler.offer(self)

    def can_run(self) -> bool:
        """Whether a worker could make a batch now."""
        return self.ring.has_free and self._next_step < self._spec.stop and not self._closed and not self._failed

    def claim(self) -> _Job:
        """Take the next step and a slot for it."""
        job = _Job(self._next_step, self.ring.claim())
        self._next_step += self._spec.stride
        self._jobs.append(job)
        return job

    def finish(self, job: _Job) -> None:
        """Hand over a job that is done, or whose stream was closed meanwhile."""
        job.done = True
        self._failed = self._failed or job.error is not None
        if self._closed:
            self.ring.give_back(job.slot)
        else:
            self.ring.finish(job.slot)
        self._ready.notify_all()

    def run(self, job: _Job, cache: VolumeCache, quarantine: Quarantine, backend: Backend) -> None:
        """Make the batch of `job`; lock not held."""
        try:
            job.params = compute_batch(
                self._spec.plan,
                self._spec.indices(job.step),
                job.slot,
                cache=cache,
                quarantine=quarantine,
                backend=backend,
                cancelled=lambda: self._closed,
                clock=self._scheduler.clock,
            )
        except BaseException as error:
            # Whatever it is belongs to the consumer of this stream: raised there, it never ends a worker that others need.
            job.error = error


class Scheduler:
    """Makes the batches of all streams on a few threads.

    Args:
        backend: computes batches; not closed here.
        cache: gives volumes.
        quarantine: takes those that are damaged.
        slots: gives memory.
        clock: gets the time of every stage.
        look_ahead: batches of one stream made before its client asks.
        workers: threads; each makes one batch at a time.
    """

    def __init__(
        self,
        backend: Backend,
        cache: VolumeCache,
        quarantine: Quarantine,
        slots: SlotPool,
        clock: StageClock,
        *,
        look_ahead: int,
        workers: int,
    ) -> None:
        self.lock = threading.Lock()
        self.slots = slots
        self.clock = clock
        self._backend = backend
        self._cache = cache
        self._quarantine = quarantine
        self._look_ahead = look_ahead
        self._work = threading.Condition(self.lock)
        self._runnable: deque[BatchStream] = deque()
        self._streams: set[BatchStream] = set()
        self._batches = 0
        self._closed = False
        self._threads: list[threading.Thread] = []
        try:
            for k in range(workers):
                thread = threading.Thread(target=self._work_loop, name=f"batch-worker-{k}", daemon=True)
                thread.start()
                self._threads.append(thread)
        except BaseException:
            self.close()
            raise

    def open(self, spec: StreamSpec, *, leases: int = 0) -> BatchStream:
        """Begin to make the batches of `spec`; close the stream when done.

        Args:
            leases: batches that a reader on this host may hold at a time; above 0 they lie in shared memory. The look-ahead goes
                on beside them.
        Raises:
            BudgetError: the stream's slots do not fit the budget, or a volume does not fit the cache.
            UnavailableError: the scheduler is closed.
        """
        count = max(1, min(self._look_ahead + (leases or 1), spec.batches))
        stream = BatchStream(self, spec, self.slots.open_ring(spec.layout, count, shared=leases > 0))
        with self.lock:
            if not self._closed:
                self._streams.add(stream)
                self.offer(stream)
                return stream
        stream.close()
        raise UnavailableError("the server is stopping; connect to another one, or to this one when it is back")

    def close(self) -> None:
        """End all streams and threads; waits for the batches being made."""
        with self.lock:
            self._closed = True
            streams = list(self._streams)
            self._work.notify_all()
        for stream in streams:
            stream.close()
        for thread in self._threads:
            thread.join()

    def statistics(self) -> SchedulerStatistics:
        """Counters at this moment."""
        with self.lock:
            return SchedulerStatistics(streams=len(self._streams), runnable=len(self._runnable), batches=self._batches)

    def offer(self, stream: BatchStream) -> None:
        """Put a stream in the line of those with work, once. Lock held."""
        if stream.can_run() and stream not in self._runnable:
            self._runnable.append(stream)
            self._work.notify()

    def forget(self, stream: BatchStream) -> None:
        """Take a closed stream out. Lock held."""
        self._streams.discard(stream)
        if stream in self._runnable:
            self._runnable.remove(stream)

    def _work_loop(self) -> None:
        while True:
            with self.lock:
                while not self._runnable and not self._closed:
                    self._work.wait()
                if self._closed:
                    return
                stream = self._runnable.popleft()
                job = stream.claim()
                self.offer(stream)
            stream.run(job, self._cache, self._quarantine, self._backend)
            with self.lock:
                self._batches += 1
                stream.finish(job)
            del stream, job  # this thread may wait for long now: a closed stream's memory must not wait with it
