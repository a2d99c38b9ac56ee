"""A call for batches in shared memory: where the socket is, the connection to it, then StreamBatches with its token.

    GetDataset -> find_link -> StreamBatches(token) -> parts           refused before the first part: StreamBatches without a token

All of it happens in the first next(), on the receiver's thread, and cancel() ends it wherever it stands: a server may be paused at any
point, and neither the deadline of a step nor close() waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc

from augclient.errors import AugError, AuthError, BudgetError, StateError, UnavailableError
from augclient.local import RingLink
from augclient.wire.status import CallError, named_error


class LocalCall:
    """An iterator of encoded parts that can be cancelled.

    It lets go of the link when it ends: an error of gRPC is the call itself, and its traceback leads back here, so this object may
    wait for the garbage collector, which must not keep a ring from the server's budget.

    Args:
        ask: begins a GetDataset; a future.
        find_link: given what asks the server for its socket's path, connects to it; None: not to be had, gRPC will do.
        begin: begins the call for batches, with the link's memory or without.
        refuse: told why the server refuses shared memory; whether gRPC will do.
    """

    def __init__(
        self,
        ask: Callable[[], Any],
        find_link: Callable[[Callable[[], str]], RingLink | None],
        begin: Callable[[RingLink | None], Any],
        refuse: Callable[[AugError], bool],
    ) -> None:
        self._ask = ask
        self._find_link = find_link
        self._begin = begin
        self._refuse = refuse
        self._link: RingLink | None = None
        self._call: Any = None
        self._opened = self._begun = self._cancelled = False

    def __iter__(self) -> Iterator[memoryview]:
        return self

    def __next__(self) -> memoryview:
        if not self._opened:
            self._link = self._find_link(self._ask_path)
            self._follow(self._begin(self._link))
            self._opened = True
        try:
            data: memoryview = next(self._call)
        except StopIteration:
            self._link = None
            raise
        except grpc.RpcError as error:
            link, self._link = self._link, None
            refusal = named_error(error)
            if link is None or self._begun or not isinstance(refusal, AuthError | BudgetError):
                raise
            if isinstance(refusal, AuthError) and link.is_closed():
                raise LinkLost(UnavailableError("the server went away between its socket and the call")) from error
            if not self._refuse(refusal):
                raise
            del link  # its ring goes back now
            data = next(self._follow(self._begin(None)))
        self._begun = True
        return data

    def close(self) -> None:
        """cancel() on the thread that reads: nothing of the call stays behind."""
        self.cancel()
        if self._opened:
            self._call.close()

    def stay_alive(self) -> None:
        """As for UnaryStreamCall."""
        if self._opened:
            self._call.stay_alive()

    def cancel(self) -> None:
        """End what is under way, from any thread."""
        self._cancelled = True
        link, self._link = self._link, None
        if link is not None:
            link.stop_waiting()
        if self._call is not None:
            self._call.cancel()

    def _ask_path(self) -> str:
        """The path of the server's socket; StateError where it has none."""
        try:
            dataset = self._follow(self._ask()).result()
        except grpc.FutureCancelledError:
            raise LinkLost(UnavailableError("the call was cancelled")) from None
        if not dataset.local_socket:
            raise StateError(f"the server has no local socket: {dataset.local_reason or 'its log says why'}")
        path: str = dataset.local_socket
        return path

    def _follow(self, call: Any) -> Any:
        """Let cancel() end this call from now on, also where it came before."""
        self._call = call
        if self._cancelled:
            call.cancel()
        return call


class LinkLost(CallError):
    """The server went away, as its socket shows: what a lost call is to the receiver."""

    def __init__(self, error: AugError) -> None:
        super().__init__(grpc.StatusCode.UNAVAILABLE, str(error))
