"""The stream of a run as the network takes it: channels last, planes as images for 2-D networks, and how long each batch was waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from augclient import Recipe, Server
from augclient.errors import DeadlineError, StateError, UnavailableError
from augclient.stream import Stream
from numpy.typing import NDArray

from augtrain.fit.fit_config import FitConfig

T = TypeVar("T")

RECONNECT_S = 300.0  # as long as a stream waits for its server by default


@dataclass(frozen=True, slots=True, eq=False)
class TrainingBatch:
    """One batch.

    Attributes:
        step: its number.
        image: float32 (N, Z, Y, X, C), or (N * Z, Y, X, C) for a 2-D network.
        label: uint8 (N, Z, Y, X), or (N * Z, Y, X).
        wait_s: how long the training loop stood still for it.
        first: whether it is the first of a stream, which nothing could fetch ahead.
    """

    step: int
    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    wait_s: float
    first: bool


class BatchFeed:
    """Batches of the run's training volumes. The stream fetches ahead on a thread of its own while the network computes.

    Args:
        volumes: ids to draw from.
        flat: whether each plane is an image of its own.
    """

    def __init__(self, server: Server, config: FitConfig, volumes: tuple[str, ...], *, flat: bool) -> None:
        self._server = server
        self._config = config
        self._volumes = volumes
        self._flat = flat
        self._stream: Stream | None = None
        self._first = True
        self.recipe: Recipe | None = None

    def open(self, recipe: Recipe, step: int, state: Mapping[str, Any] | None = None) -> None:
        """Go on at `step` with a recipe. The batch numbers go on too, so crops stay those of a run without a change.

        Args:
            state: of a checkpoint: refused (StateError) where it is of another dataset, recipe, seed, patch or batch size.
        """
        self.close()
        batches = self._config.batches
        self._stream = patiently(
            lambda: self._server.stream(
                recipe,
                patch=batches.patch,
                batch_size=batches.size,
                seed=self._config.seed,
                start=step,
                steps=max(self._config.steps - step, 0),
                image_dtype=batches.dtype,
                transport=batches.transport,
                volumes=self._volumes,
                state=state,
                writable=True,  # PyTorch warns of arrays that it must not write to; nothing here writes
            )
        )
        self.recipe = recipe
        self._first = True

    def take(self) -> TrainingBatch:
        """Wait for the next batch; raises what the stream does. An interrupted call may be repeated."""
        if self._stream is None:
            raise StateError("the feed is closed; open() it at a step")
        begin = time.perf_counter()
        batch = next(self._stream)
        wait_s = time.perf_counter() - begin
        if batch.label is None:
            raise StateError(f"batch {batch.step} came without labels; serve a dataset that has some")
        image, label = _channels_last(batch.image), batch.label
        if self._flat:
            image, label = image.reshape(-1, *image.shape[2:]), label.reshape(-1, *label.shape[2:])
        first, self._first = self._first, False
        return TrainingBatch(batch.step, image, label, wait_s, first)

    def state(self, step: int) -> dict[str, Any]:
        """The stream's token, for a run that has trained on all batches before `step`."""
        if self._stream is None:
            raise StateError("the feed is closed; open() it at a step")
        return {**self._stream.state_dict(), "step": step}

    @property
    def transport(self) -> str | None:
        """The road that the batches take."""
        return None if self._stream is None else self._stream.transport

    def close(self) -> None:
        """End the stream; twice is fine."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def whole_volume(server: Server, recipe: Recipe, id: str) -> tuple[NDArray[np.float32], NDArray[np.uint8], tuple[float, float, float]]:
    """A volume as the network should see it, from the same kernel that makes the batches.

    Args:
        recipe: of augtrain.fit.schedule.whole_recipe.
    Returns:
        image float32 (Z, Y, X, C), label uint8 (Z, Y, X), spacing_mm zyx; at the recipe's spacing, or the volume's own.
    Raises:
        BudgetError: it is larger than the server gives away in one piece. StateError: it has no label.
    """
    info = patiently(server.dataset).info(id)
    wanted = recipe.to_dict().get("output", {}).get("spacing_mm", info.spacing_mm)
    spacing = tuple(float(step) for step in (wanted if isinstance(wanted, list | tuple) else (wanted,) * 3))
    shape = [max(1, round(n * have / want)) for n, have, want in zip(info.shape[1:], info.spacing_mm, spacing, strict=True)]
    # one batch of one patch: over gRPC, since memory shared with the server pays only for many
    one = patiently(lambda: server.stream(recipe, patch=shape, batch_size=1, steps=1, volumes=[id], transport="grpc", prefetch=1))
    with one as stream:
        batch = next(stream)
    if batch.label is None:
        raise StateError(f"volume {id!r} has no label, so nothing can be validated with it")
    return _channels_last(batch.image)[0], batch.label[0], (spacing[0], spacing[1], spacing[2])


def patiently(call: Callable[[], T], for_s: float = RECONNECT_S) -> T:
    """The answer of a call, asked for again while the server is away: a stream waits for its server too, a single call does not.

    Raises:
        UnavailableError, DeadlineError: it stayed away for longer than `for_s`.
    """
    deadline, pause_s = time.monotonic() + for_s, 0.1
    while True:
        try:
            return call()
        except (UnavailableError, DeadlineError):
            if time.monotonic() + pause_s > deadline:
                raise
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 5.0)


def _channels_last(image: NDArray[Any]) -> NDArray[np.float32]:
    """(N, C, Z, Y, X) of any dtype of the wire -> float32 (N, Z, Y, X, C); no copy of one channel in float32."""
    if image.dtype == np.uint8:
        image = image * np.float32(1 / 255)
    last = np.moveaxis(image.astype(np.float32, copy=False), 1, -1)
    return np.ascontiguousarray(last)
