"""Voxels on their way to a browser."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

_ANSWER_S = 60.0  # for a browser to take one
_PART_BYTES = 256 << 10


class RawAnswer(StreamingResponse):
    """Voxels, then labels, in parts: a browser that reads slowly makes the server wait and not copy, but not for ever.

    Args:
        header: name of the header that says what the bytes are.
        about: further facts for it.
        on_end: called once, however the answer ends.
    """

    def __init__(
        self,
        header: str,
        image: NDArray[Any],
        label: NDArray[np.uint8] | None,
        about: Mapping[str, Any],
        *,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        arrays = [np.ascontiguousarray(array).reshape(-1).view(np.uint8).data for array in (image, label) if array is not None]

        async def parts() -> AsyncIterator[memoryview]:
            for array in arrays:
                for offset in range(0, len(array), _PART_BYTES):
                    yield array[offset : offset + _PART_BYTES]

        facts = {"image_shape": image.shape, "dtype": image.dtype.name, "has_label": label is not None, **about}
        headers = {header: json.dumps(facts), "Content-Length": str(sum(map(len, arrays)))}
        super().__init__(parts(), media_type="application/octet-stream", headers=headers)
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(_ANSWER_S):
                await super().__call__(scope, receive, send)
        finally:
            self._on_end()
