"""The road of a stream's batches: memory shared with the server where it is on this host, else gRPC; which was taken, and why.

    transport  "auto"   shared memory, and gRPC where that cannot be had: said once in the log, and in Stream.transport_reason
               "local"  shared memory, or an error
               "grpc"   gRPC

Asked anew at every call, so a stream that lost its server may go on over another road. A batch in shared memory holds a lease until its
last array is gone. Whoever holds more of them than there are leases would starve the stream: "auto" copies what comes then into memory
of its own and counts it (`copied`); "local" waits for a batch to be dropped, and gives up after HELD_WAIT_S.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augclient.contract import MAX_LEASES
from augclient.errors import AugError, BudgetError, DeadlineError, RequestError, UnavailableError, WireError
from augclient.local import RingLink, open_link
from augclient.stream.local_call import LinkLost, LocalCall
from augclient.wire.methods import ServiceCalls
from augclient.wire.v1 import augserver_pb2 as pb

TRANSPORTS = ("auto", "local", "grpc")
HELD_WAIT_S = 30.0
_TRAINER_LEASES = 4  # beside `prefetch`: the batch in use, the one before it, and two that a tf.data pipeline holds

_log = logging.getLogger("augclient")


@dataclass(frozen=True, slots=True)
class RoadStatistics:
    """Batches that came in shared memory, those of them that were copied out of it, and leases held now."""

    shared: int
    copied: int
    held: int


class Road:
    """Chooses; used by the stream's receiver, read by anyone.

    Args:
        transport: one of TRANSPORTS.
        prefetch: batches that the receiver holds.
        writable: whether the trainer may write to the arrays; see RingLink.
        timeout_s: for the server's answers on the way to shared memory.

    Attributes:
        taken: "local" or "grpc"; None before the first call.
        reason: why it was taken, for people.
        ignores_stride: the server sends every batch, whatever stride it is asked for, and so is asked for one batch at a time.
    """

    def __init__(self, transport: str, *, prefetch: int, writable: bool = False, timeout_s: float = 30.0) -> None:
        if transport not in TRANSPORTS:
            raise RequestError(f"transport: got {transport!r}; allowed: {', '.join(TRANSPORTS)}")
        self.transport = transport
        self.taken: str | None = None
        self.reason = ""
        self.ignores_stride = False
        self._ruled_out = ""
        self._leases = min(prefetch + _TRAINER_LEASES, MAX_LEASES)
        self._writable = writable
        self._timeout_s = timeout_s
        self._link: RingLink | None = None
        self._shared = self._copied = 0

    def rule_out(self, why: str) -> None:
        """This stream cannot use shared memory, wherever its server is; RequestError where it must."""
        if self.transport == "local":
            raise RequestError(f'transport: got "local"; allowed here: "auto", "grpc", because {why}')
        if self.transport == "auto":
            self._ruled_out = why
            self._take("grpc", f"shared memory cannot be had: {why}")

    def ask_one_by_one(self) -> None:
        """The server is of a release before the stride: from now on every batch is a call of its own, over gRPC."""
        self.ignores_stride = True
        self.rule_out("the server is of a release before `stride`, so that every batch is a call of its own; update it")

    def open(self, calls: ServiceCalls, metadata: Any, request: pb.StreamBatchesRequest) -> Any:
        """Begin the call of a request.

        Returns:
            An iterator of encoded parts that can be cancelled. It raises grpc.RpcError where the server does not answer, and AugError
            where transport is "local" and shared memory cannot be had.
        """

        def begin(link: RingLink | None) -> Any:
            if link is None:
                return calls.stream_batches(request, metadata=metadata)
            local = pb.Local(token=link.token, leases=self._leases)
            return calls.stream_batches(_with_local(request, local), metadata=metadata)

        if self.transport == "grpc":
            self._take("grpc", 'transport="grpc" was asked for')
        if self.transport == "grpc" or self._ruled_out:
            return begin(None)
        self._link = None  # of a call that has ended: its ring goes back before another one is asked for
        timeout_s = self._timeout_s
        return LocalCall(
            lambda: calls.get_dataset.future(pb.GetDatasetRequest(), metadata=metadata, timeout=timeout_s),
            self._find_link,
            begin,
            self._refuse,
        )

    def view(self, slot: pb.SlotRef, image_bytes: int, label_bytes: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None, bool]:
        """Where a batch lies.

        Returns:
            Flat uint8 arrays of image and label (None without one), and whether they must be copied and dropped at once.
        Raises:
            WireError: no shared memory was asked for, or the slot is not in it. BudgetError: too many batches are held.
            grpc.RpcError: the server went away before it handed over the memory.
        """
        link = self._link
        if link is None:
            raise WireError("a batch came as a slot of shared memory, which was not asked for")
        try:
            link.map_ring()
        except UnavailableError as error:
            raise LinkLost(error) from error
        crowded = link.held >= self._leases
        if crowded and self.transport == "local":
            if not link.wait_below(self._leases, HELD_WAIT_S):
                raise BudgetError(
                    f"{link.held} batches of this stream are held, as many as have a lease, and none was dropped for {HELD_WAIT_S:g} s; "
                    'drop or release() batches before you ask for more, copy what you keep, or use transport="auto", which copies'
                )
            crowded = False
        stretches = [(slot.image_offset, image_bytes), *([(slot.label_offset, label_bytes)] if label_bytes else [])]
        image, *label = link.view(slot.lease, tuple(stretches))
        self._shared += 1
        if crowded:
            if not self._copied:
                _log.warning("more than %d batches are held: those that come are copied out of shared memory", self._leases)
            self._copied += 1
        return image, label[0] if label else None, crowded

    def statistics(self) -> RoadStatistics:
        """Counters at this moment."""
        link = self._link
        return RoadStatistics(self._shared, self._copied, 0 if link is None else link.held)

    def close(self) -> None:
        """Let go of the connection; it ends with the last batch on it."""
        self._link = None

    def _find_link(self, ask_path: Callable[[], str]) -> RingLink | None:
        """A connection to the server's local socket, or None for gRPC.

        A socket that does not answer, or is not there where it was before, may be that of a server which is going: it is asked once
        more. If it was, it does not answer, and the call is lost like any other; else shared memory is not to be had.
        """
        for may_be_gone in (True, False):
            path = ""
            try:
                path = ask_path()
                self._link = open_link(path, writable=self._writable)
            except AugError as error:
                lost = isinstance(error, UnavailableError | DeadlineError) or bool(path and self._shared)
                if lost and may_be_gone:
                    continue
                if lost and self.transport == "local":
                    raise LinkLost(error) from error
                if self.transport == "local":
                    raise type(error)(f'transport="local": {error}') from error
                self._take("grpc", f"shared memory cannot be had: {error}")
                break
            self._take("local", f"the server is on this host and shares memory through {path}")
            break
        return self._link

    def _refuse(self, error: AugError) -> bool:
        """The server refused shared memory; whether gRPC may be used instead."""
        if self.transport == "local":
            return False
        self._link = None
        self._take("grpc", f"the server refused shared memory: {error}")
        return True

    def _take(self, road: str, reason: str) -> None:
        if (road, reason) != (self.taken, self.reason):
            _log.info("batches come over %s: %s", road, reason)
        self.taken, self.reason = road, reason


def _with_local(request: pb.StreamBatchesRequest, local: pb.Local) -> pb.StreamBatchesRequest:
    message = pb.StreamBatchesRequest()
    message.CopyFrom(request)
    message.local.CopyFrom(local)
    return message
