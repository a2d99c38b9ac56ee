"""Warp calls: a thread of each reads items into a queue on the backend, its handler sends the results, in order.

    client --parts--> reader: check, assemble --push--> AugmentQueue --pop--> handler --parts--> client
                      ^ waits while the share of memory is used or the queue is full, and so gRPC makes the client wait

An item's bytes count from its header's arrival until its result is sent. What ends the reader (the client's last item, a refusal, a
drain) reaches the client in its turn, after the results of the items before it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
from augclient.wire.parts import encode_payload, split_payload
from augclient.wire.v1 import augserver_pb2 as pb

from augserver.config import ServerConfig
from augserver.errors import AugError, BudgetError, UnavailableError
from augserver.kernel import AugmentQueue, Backend
from augserver.pipeline.byte_budget import BudgetShare, ByteBudget, ByteStatistics
from augserver.service.warp_requests import WarpItem, name_item, read_items


class WarpCalls:
    """All Warp calls of a server.

    Args:
        backend: computes; stays open.
        config: all settings.
    """

    def __init__(self, backend: Backend, config: ServerConfig) -> None:
        self._backend = backend
        self._config = config
        self._budget = ByteBudget(config.warp.max_bytes, config.warp.max_stream_bytes, section="warp")
        self._lock = threading.Lock()
        self._open: set[_WarpCall] = set()
        self._draining = False

    def serve(self, messages: Iterator[bytes], context: Any) -> Generator[bytes, None, None]:
        """Answer one call.

        Args:
            messages: encoded WarpParts, as gRPC hands them out.
            context: the call's grpc.ServicerContext.
        Yields:
            Encoded WarpedParts.
        Raises:
            AugError: what the client is to be told.
        """
        with self._budget.open() as share, AugmentQueue(self._backend, depth=self._config.warp.depth) as queue:
            call = _WarpCall(messages, queue, share, self._config)
            with self._registered(call):
                if not context.add_callback(call.close):
                    raise UnavailableError("the call ended before its first item")
                yield from call.results()

    def drain(self) -> None:
        """End every call after the results of the items that are in its queue now."""
        with self._lock:
            self._draining = True
            calls = list(self._open)
        for call in calls:
            call.drain()

    def statistics(self) -> ByteStatistics:
        """Memory that all calls hold at this moment."""
        return self._budget.statistics()

    @contextmanager
    def _registered(self, call: _WarpCall) -> Iterator[None]:
        with self._lock:
            self._open.add(call)
            draining = self._draining
        if draining:
            call.drain()
        try:
            yield
        finally:
            call.close()
            with self._lock:
                self._open.discard(call)


class _WarpCall:
    """One call: `results` belongs to its handler, `drain` and `close` may come from any thread and do not wait."""

    def __init__(self, messages: Iterator[bytes], queue: AugmentQueue, share: BudgetShare, config: ServerConfig) -> None:
        self._queue = queue
        self._share = share
        self._part_bytes = config.limits.part_bytes
        self._items = read_items(messages, limits=config.limits, share=share)
        self._changed = threading.Condition()
        self._pushed: deque[tuple[int, int]] = deque()  # (number, bytes) of items in the queue
        self._error: Exception | None = None
        self._ended = False  # no further item will be pushed
        self._draining = False
        self._closed = False
        self._reader = threading.Thread(target=self._read, name="warp-reader", daemon=True)

    def results(self) -> Iterator[bytes]:
        """The results of all items, in parts; then what ended them, if it was an error."""
        self._reader.start()
        done = 0
        while (pushed := self._next()) is not None:
            number, size_bytes = pushed
            yield from self._result(number)
            self._share.give(size_bytes)
            done += 1
        if self._draining and not self._ended:
            raise UnavailableError(
                f"the server is draining; items from {done} on have no result: send them again to another server, or to this one "
                "when it is back"
            )
        if self._error is not None:
            raise self._error

    def drain(self) -> None:
        with self._changed:
            self._draining = True
            self._changed.notify_all()

    def close(self) -> None:
        """Forget what is not sent; the reader ends when gRPC or the queue wakes it."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _next(self) -> tuple[int, int] | None:
        """Wait for the next item in the queue; None when there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._pushed or self._ended or self._draining or self._closed)
            return self._pushed.popleft() if self._pushed and not self._closed else None

    def _result(self, number: int) -> Iterator[bytes]:
        """The parts of the oldest item in the queue, which is `number`."""
        try:
            images, labels = self._queue.pop()
        except AugError as error:
            raise name_item(number, error) from error
        image, label = images[0], None if labels is None else labels[0]
        header = pb.WarpedItem(image_shape=image.shape, image_dtype=image.dtype.name, has_label=label is not None)
        yield from encode_payload(
            number,
            header.SerializeToString(),
            image.reshape(-1).view(np.uint8).data,
            None if label is None else label.reshape(-1).data,
            split_payload(image.nbytes, 0 if label is None else label.nbytes, self._part_bytes),
        )

    def _read(self) -> None:
        """Body of the reader. It outlives the handler for a moment when gRPC ends the call under it."""
        error: Exception | None = None
        try:
            for item in self._items:
                self._push(item)
                del item  # the queue has it; while this thread waits for the next one it must not keep it alive
                with self._changed:
                    if self._draining or self._closed:
                        return
        except grpc.RpcError:
            return  # the client is gone, and the handler knows
        except Exception as caught:  # raised by the handler, in its turn
            error = caught
        with self._changed:
            self._error = error
            self._ended = True
            self._changed.notify_all()

    def _push(self, item: WarpItem) -> None:
        try:
            self._queue.push(
                [item.volume],
                [item.params],
                item.shape,
                image_dtype=item.dtype,
                label=item.volume.label is not None,
                nearest=item.nearest,
                timeout_s=None,
            )
        except MemoryError as error:
            raise BudgetError(f"item {item.number}: the machine has no memory for its result; lower warp.max_bytes") from error
        except AugError as error:
            raise name_item(item.number, error) from error
        with self._changed:
            self._pushed.append((item.number, item.size_bytes))
            self._changed.notify_all()
