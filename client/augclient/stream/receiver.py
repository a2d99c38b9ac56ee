"""A background thread that receives batches ahead of the trainer, and calls again by step when the server goes away.

    server --parts--> gRPC --> thread: decode, copy into a reused buffer --> at most `prefetch` batches --> HandOver

At most `prefetch` batches are received and not yet taken, the one under way included; then the thread reads no more than keeps the call
alive (http2.WINDOW_BYTES), gRPC's flow control fills up, and the server stops computing. The thread knows nothing of the Stream that
reads it, so a forgotten Stream can be collected and ends its thread. A server that says nothing for `step_timeout_s` while the trainer
waits counts as lost: it may be paused or hang, which nothing else would tell.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc

from augclient.errors import AugError, BudgetError, DeadlineError, UnavailableError
from augclient.stream.assembly import BatchAssembler
from augclient.stream.batch import Batch
from augclient.stream.call_loop import StrideIgnored, read_call, wait_in_call
from augclient.stream.hand_over import HandOver
from augclient.stream.outage import Outage
from augclient.stream.road import Road
from augclient.stream.spec import StreamSpec
from augclient.stream.thread_start import start_aside
from augclient.wire.status import error_from_rpc, is_outage, named_error

_log = logging.getLogger("augclient")


class Receiver:
    """Receives the batches of a spec from one step on, in order, each exactly once."""

    def __init__(
        self,
        open_call: Callable[[int], Any],
        assembler: BatchAssembler,
        road: Road,
        *,
        address: str,
        spec: StreamSpec,
        first: int,
        prefetch: int,
        reconnect_s: float,
        step_timeout_s: float,
    ) -> None:
        """Nothing begins before start().

        Args:
            open_call: begins the call that continues at a step; gives an iterator of encoded parts that can be cancelled.
            road: of those calls; knows whether the server can leave batches out.
            first: the step to begin at.
            reconnect_s: how long the server may stay away, from the loss to the next whole batch.
            step_timeout_s: how long it may send nothing while a batch is awaited.
        """
        self._open_call = open_call
        self._assembler = assembler
        self._road = road
        self._address = address
        self._spec = spec
        self._step = first
        self._reconnect_s = reconnect_s
        self._step_timeout_s = step_timeout_s
        self._hand_over = HandOver(first, spec.stride, prefetch)
        self._bell = self._hand_over.make_bell()
        self._call: Any = None
        self._heard: tuple[Any, float] | None = None  # the call that is read, and when it began or its last part came
        self._silent: DeadlineError | None = None
        self._threads: list[threading.Thread] = []
        self._started = False
        self._unclaimed = [self]  # the thread that takes this out is the one that receives
        self._paused = False  # whether there was no space at some time since the last call began

    @property
    def ready(self) -> deque[Batch]:
        """See HandOver."""
        return self._hand_over.ready

    def start(self) -> None:
        """Start the thread, if it was not. After an interrupt it is not known whether it was: a second one ends at once."""
        if not self._started and self._unclaimed:
            thread = threading.Thread(target=self._run, name=f"augclient-{self._address}", daemon=True)
            self._threads.append(thread)
            start_aside(thread, self._hand_over.end)
            self._started = True

    def wait(self, step: int) -> bool:
        """See HandOver."""
        self._hand_over.ask_for(step)
        return self._hand_over.wait(step, self._hurry)

    def _hurry(self) -> float:
        """Cancel a call that has been silent for too long; how long it may be so still, in seconds."""
        heard = self._heard
        if heard is None:
            return self._step_timeout_s
        call, heard_at = heard
        left_s = heard_at + self._step_timeout_s - time.monotonic()
        if left_s > 0:
            return left_s
        self._silent = DeadlineError(
            f"{self._address}: nothing came for step_timeout_s = {self._step_timeout_s:g} s, though batch {self._step} is due."
        )
        call.cancel()
        self._heard = None
        return self._step_timeout_s

    def close(self) -> None:
        """Cancel the call, drop what was received, and wait for the thread to end. Any thread, any number of times."""
        self._hand_over.close()
        call = self._call
        if call is not None:
            call.cancel()
        for thread in tuple(self._threads):
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join()

    def _run(self) -> None:
        try:
            self._unclaimed.pop()
        except IndexError:
            return
        error: Exception | None = None
        try:
            self._receive()
        except Exception as caught:  # raised to the trainer by wait()
            error = caught
        finally:
            self._call = None
            self._hand_over.end(error)

    def _receive(self) -> None:
        outage = Outage(self._reconnect_s)
        lost_before = False
        while self._wait_for_space():
            if self._paused:  # nothing was due meanwhile, so that time does not count
                outage, self._paused = Outage(self._reconnect_s), False
            begun_at = self._step
            try:
                self._receive_call()
            except grpc.RpcError as lost:
                if self._hand_over.closing:
                    return
                # a server that was left a moment ago may count the stream that it lost
                crowded = lost_before and isinstance(named_error(lost), BudgetError)
                if not (is_outage(lost) or crowded):
                    raise error_from_rpc(lost, self._address) from lost
                lost_before = True
                if self._step > begun_at:
                    outage = Outage(self._reconnect_s)
                delay_s = outage.next_delay_s()
                reason: AugError = self._silent or error_from_rpc(lost, self._address)
                if outage.attempts == 1:
                    _log.warning("batch %d is asked for again, for up to %g s: %s", self._step, self._reconnect_s, reason)
                if delay_s is None:
                    raise UnavailableError(
                        f"{reason} No whole batch for reconnect_s = {self._reconnect_s:g} s;"
                        f" the next one is {self._step}: restart the server and resume with state_dict()"
                    ) from lost
                self._sleep(delay_s)

    def _receive_call(self) -> None:
        """Receive from one call until it ends."""
        call = self._open_call(self._step)
        self._silent = None
        self._call, self._heard = call, (call, time.monotonic())
        if self._hand_over.closing:  # close() sees the call, or this sees close()
            call.cancel()
        self._assembler.reset()
        due = self._spec.asked(self._step, alone=self._road.ignores_stride)
        try:
            read_call(call, due=due, add=self._add, go_on=self._go_on, sender=self._address, step=lambda: self._step)
        except StrideIgnored:
            self._road.ask_one_by_one()
        finally:
            self._heard = None

    def _add(self, data: memoryview) -> bool:
        """Take one message; whether it completed a batch."""
        self._heard = self._call, time.monotonic()
        batch = self._assembler.add(data, self._step, 1 if self._road.ignores_stride else self._spec.stride)
        if batch is None:
            return False
        self._step += self._spec.stride
        self._hand_over.put(batch)
        return True

    def _go_on(self) -> bool:
        """Wait for space within a call."""
        if not self._wait_for_space():
            return False
        self._heard = self._call, time.monotonic()
        return True

    def _wait_for_space(self) -> bool:
        """Wait until the next batch may be received; False when there is none or the stream is closing."""
        return wait_in_call(self._bell, self._has_space, lambda: self._call)

    def _has_space(self) -> bool | None:
        if self._hand_over.closing or (self._spec.stop is not None and self._step >= self._spec.stop):
            return False
        if not self._hand_over.may_receive(self._step):
            self._heard, self._paused = None, True  # the server is not asked for anything now, so its silence does not count
            return None
        return True

    def _sleep(self, delay_s: float) -> None:
        until = time.monotonic() + delay_s
        while not self._hand_over.closing and (left_s := until - time.monotonic()) > 0:
            self._bell.wait(left_s)
