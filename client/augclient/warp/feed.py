"""The request side of a warp stream: pulls the caller's iterators on gRPC's thread, never far ahead of what was delivered."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augclient.errors import RequestError
from augclient.stream.hand_over import Bell
from augclient.warp.transform import Transform, item_message, read_volume
from augclient.wire.methods import MAX_REQUEST_BYTES
from augclient.wire.parts import encode_payload, split_payload

PART_BYTES = MAX_REQUEST_BYTES - (64 << 10)  # of what a server takes, less room for the header


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultForm:
    """What the result of one item must look like.

    Attributes:
        shape: (C, Z, Y, X).
        has_label: whether a label (Z, Y, X) comes along.
        has_channels: whether the caller's image had its axis C.
        paired: whether the caller gave a pair, and so gets one.
    """

    shape: tuple[int, ...]
    has_label: bool
    has_channels: bool
    paired: bool


class Feed:
    """Turns the caller's volumes and transforms into messages.

    What the iterators raise, and what is wrong with what they give, is kept in `error` and ends the request; the results of the items
    before it still come. Knows nothing of the stream that reads those, so that one can be collected.

    Attributes:
        forms: of the items that were begun and whose results have not come whole, oldest first.
        error: what ended the request early.
        pulling: whether it waits for the caller's iterators now.
    """

    def __init__(
        self, volumes: Iterable[Any], transforms: Iterable[Transform] | Transform, shape: Sequence[int] | None, dtype: str, ahead: int
    ) -> None:
        self._volumes = iter(volumes)
        self._transforms = itertools.repeat(transforms) if isinstance(transforms, Transform) else iter(transforms)
        self._shape = shape
        self._dtype = dtype
        self._ahead = ahead
        self._bell = Bell()  # without a lock: the caller's thread may be interrupted, and a garbage collection may end a stream anywhere
        self._delivered = 0
        self._closed = False
        self.forms: deque[ResultForm] = deque()
        self.error: Exception | None = None
        self.pulling = False

    def messages(self) -> Iterator[bytes]:
        """Encoded WarpParts; waits while `ahead` items are under way."""
        try:
            for number in itertools.count():
                if not self._wait_for_turn(number):
                    return
                self.pulling = True
                try:
                    given = next(self._volumes)
                except StopIteration:
                    return
                finally:
                    self.pulling = False
                yield from self._encode(number, given)
                del given  # while this thread waits for its turn it must not keep the caller's array alive
        except Exception as error:  # the caller's own, or about what they gave: raised to them in its turn
            self.error = error

    def server_owes(self) -> bool:
        """Whether the server has something to do: a result to send, a message to read, or the call to end."""
        return bool(self.forms) or not self.pulling

    def deliver(self) -> None:
        """One more result is with the caller."""
        self._delivered += 1
        self._bell.ring()

    def close(self) -> None:
        """Pull no further item; the thread ends when the caller's iterator returns."""
        self._closed = True
        self._bell.ring()

    def _wait_for_turn(self, number: int) -> bool:
        while number >= self._delivered + self._ahead and not self._closed:
            self._bell.wait(None)
        return not self._closed

    def _encode(self, number: int, given: Any) -> Iterator[bytes]:
        try:
            transform = next(self._transforms)
        except StopIteration:
            raise RequestError(f"transforms ended after {number}, and there are more volumes; give one for each, or one for all") from None
        try:
            volume = read_volume(given)
            header = item_message(volume, transform, self._shape, self._dtype)
        except RequestError as error:
            raise type(error)(f"item {number}: {error}") from error
        shape = (len(volume.image), *header.output_shape)
        has_label = volume.label is not None
        self.forms.append(ResultForm(shape=shape, has_label=has_label, has_channels=volume.has_channels, paired=volume.paired))
        image, label = _bytes_of(volume.image), None if volume.label is None else _bytes_of(volume.label)
        stretches = split_payload(image.nbytes, 0 if label is None else label.nbytes, PART_BYTES)
        return encode_payload(number, header.SerializeToString(), image, label, stretches)


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data
