"""The iterator of results that the caller of `Server.warp` holds."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TypeAlias

import grpc
import numpy as np
from numpy.typing import NDArray

from augclient.errors import AugError, BudgetError, DeadlineError, StateError, UnavailableError, WireError
from augclient.stream.assembly import read_message
from augclient.stream.buffers import ALIGNMENT, BufferPool
from augclient.warp.feed import Feed, ResultForm
from augclient.warp.heap import settle_heap
from augclient.wire.array_filler import ArrayFiller
from augclient.wire.parts import decode_part
from augclient.wire.silence import SilenceLimit
from augclient.wire.status import error_from_rpc, is_outage
from augclient.wire.v1 import augserver_pb2 as pb

Warped: TypeAlias = NDArray[Any] | tuple[NDArray[Any], NDArray[np.uint8] | None]


class WarpStream(Iterator[Warped]):
    """Results in the order of the volumes; an iterator and a context manager. Not for several threads at once.

    The call begins with the first next() and ends with the stream: at the last result, on an error, by close() or `with`, or when the
    stream is garbage. The caller's iterators are pulled on a thread of gRPC, `prefetch` items ahead at most.
    """

    def __init__(self, feed: Feed, open_call: Callable[[Iterator[bytes]], Any], *, address: str, dtype: str, step_timeout_s: float) -> None:
        self._feed = feed
        self._open_call = open_call
        self._address = address
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._pool = BufferPool(keep=2)  # the result that the caller holds, and the one it held while it asked for that
        self._step_timeout_s = step_timeout_s
        self._call: Any = None
        self._silence: SilenceLimit | None = None
        self._number = 0
        self._ended = False
        self._closed = False
        self._interrupted = False
        weakref.finalize(self, feed.close)  # also at the interpreter's exit

    def __next__(self) -> Warped:
        """Wait for the next result.

        Raises:
            StopIteration: there is one for each volume.
            DeadlineError: it sent nothing for step_timeout_s while a result was due.
            UnavailableError: the server went away. A warp stream cannot be resumed by number, as no server holds the volumes: the
                message says from which item on to start another one.
            AugError: what the server answered; it names the item.
            StateError: the stream was closed, or an earlier next() was interrupted (Ctrl-C), which ends it: the message says from which
                item on to start another one.
            Exception: what the caller's iterators raised, after the results of the items before.
        """
        if self._closed:
            raise StateError(f"the warp stream is closed, at item {self._number}; start another one")
        if self._interrupted:
            raise StateError(
                f"the warp stream was interrupted and has ended. Items from {self._number} on have no result: start another one with the "
                "volumes from there"
            )
        if self._ended:
            raise StopIteration
        number = self._number
        try:
            if self._call is None:
                settle_heap()
                self._call = self._open_call(self._feed.messages())
            if self._silence is None:
                self._silence = SilenceLimit(self._call, self._step_timeout_s, self._feed.server_owes)
                weakref.finalize(self, self._silence.close)
            result = self._receive(self._silence)
            if result is not None:
                self._number += 1
                self._feed.deliver()
                return result
        except Exception as error:
            self._end()
            if isinstance(error, grpc.RpcError):
                raise self._explain(error) from error
            raise
        except BaseException:
            # Ctrl-C comes between parts, and half a result is of no use.
            self._interrupted, self._number = True, number
            self._end()
            raise
        self._end()
        if self._feed.error is not None:
            raise self._feed.error
        raise StopIteration

    def close(self) -> None:
        """End the stream and cancel the call; twice is fine. Results taken before stay valid."""
        self._closed = True
        self._end()

    def __enter__(self) -> WarpStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _receive(self, silence: SilenceLimit) -> Warped | None:
        """One result; None at the end of the call."""
        silence.listen()
        what = f"item {self._number}"
        arrays: tuple[NDArray[np.uint8], NDArray[np.uint8] | None] | None = None
        form: ResultForm | None = None
        filler: ArrayFiller | None = None
        for data in self._call:
            silence.listen()
            part = decode_part(data)
            if part.step != self._number:
                raise WireError(f"{self._address}: a part of item {part.step} came where {what} was due")
            if part.header is not None and form is None:
                form = self._form(what, part.header)
                arrays = self._arrays(form)
                filler = ArrayFiller(*arrays, what)
            if filler is None or form is None or arrays is None:
                raise WireError(f"{self._address}: the first part of {what} came without a header")
            filler.add(part)
            if part.last:
                self._feed.forms.popleft()
                silence.pause()
                return self._result(form, *arrays)
        if filler is not None or self._feed.forms:
            raise WireError(f"{self._address}: the server ended the call before the last part of {what}")
        return None

    def _form(self, what: str, data: memoryview) -> ResultForm:
        header = read_message(pb.WarpedItem, data)
        if not self._feed.forms:
            raise WireError(f"{self._address}: {what} came before it was sent")
        form = self._feed.forms[0]
        got = (tuple(header.image_shape), header.image_dtype, header.has_label)
        due = (form.shape, self._dtype.newbyteorder("=").name, form.has_label)
        if got != due:
            raise WireError(f"{self._address}: {what} came with shape, dtype and label {got}; due are {due}")
        return form

    def _arrays(self, form: ResultForm) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Flat bytes of image and label, in one buffer."""
        image_bytes = math.prod(form.shape) * self._dtype.itemsize
        label_at = -(-image_bytes // ALIGNMENT) * ALIGNMENT
        label_bytes = math.prod(form.shape[1:]) if form.has_label else 0
        try:
            buffer = self._pool.take(label_at + label_bytes)
        except MemoryError:
            raise BudgetError(f"no memory for a result of {(label_at + label_bytes) / 1e6:.0f} MB; ask for a smaller shape") from None
        return buffer[:image_bytes], buffer[label_at:] if form.has_label else None

    def _result(self, form: ResultForm, image: NDArray[np.uint8], label: NDArray[np.uint8] | None) -> Warped:
        warped: NDArray[Any] = image.view(self._dtype).reshape(form.shape if form.has_channels else form.shape[1:])
        if not form.paired:
            return warped
        return warped, None if label is None else label.reshape(form.shape[1:])

    def _explain(self, error: grpc.RpcError) -> AugError:
        told = error_from_rpc(error, self._address)
        if self._silence is not None and self._silence.broken:
            return DeadlineError(
                f"{self._address}: nothing came for step_timeout_s = {self._step_timeout_s:g} s, though the result of item {self._number}"
                f" is due. Items from {self._number} on have no result: start another warp stream with the volumes from there"
            )
        if is_outage(error):
            return UnavailableError(
                f"{told} Items from {self._number} on have no result, and a warp stream cannot be resumed by number: start another one "
                "with the volumes from there"
            )
        return told

    def _end(self) -> None:
        self._ended = True
        self._feed.close()
        if self._silence is not None:
            self._silence.close()
        if self._call is not None:
            self._call.cancel()  # no-op after the end
