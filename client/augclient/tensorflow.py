"""A stream as a tf.data.Dataset, without a compiled plugin.

Batches are addressed by number, so the dataset is a range of numbers and a function from a number to its batch:

    Dataset.range(start, stop) -> map(fetch, through tf.numpy_function) -> prefetch

One stream stands behind `fetch`; it is opened at the first number that is asked for, and again where the numbers jump: after a restored
checkpoint, or at the next pass over the dataset. tf.train.Checkpoint saves the number alone (symbolic checkpoints), no voxels. With one
channel the arrays pass into TensorFlow uncopied; with more they are transposed to channels last once, in TensorFlow.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from augclient.client import Server, connect
from augclient.errors import RequestError, StateError, WireError
from augclient.recipe import Recipe
from augclient.stream import Stream

_ENDLESS = np.iinfo(np.int64).max


def dataset(
    server: Server | str | Sequence[str],
    recipe: Recipe,
    *,
    patch: Sequence[int],
    batch_size: int,
    seed: int = 0,
    start: int = 0,
    steps: int | None = None,
    rank: int = 0,
    world: int = 1,
    image_dtype: str = "float32",
    transport: str = "auto",
    state: Mapping[str, Any] | None = None,
    prefetch: int = 2,
    reconnect_s: float = 300.0,
    step_timeout_s: float = 60.0,
    hedge_s: float | None = 5.0,
    volumes: Sequence[str] | None = None,
) -> tf.data.Dataset:
    """Batches of (image, label), in order, each exactly once, static in shape.

    To resume: put the dataset's iterator into a tf.train.Checkpoint, or pass `state`, a token of a Stream's state_dict(); either goes
    on at the next batch that the iterator has not returned. One iterator at a time is fast: two over the same dataset
    are right, but reopen the stream in turns.

    Args:
        server: a Server, which must stay open, or an address to connect to, where a server is waited for as long as reconnect_s.
        recipe, patch, batch_size, ..., volumes: as for Server.stream(). `start` + `steps` < 2**63.
    Returns:
        tf.data.Dataset of image (N, Z, Y, X, C) of `image_dtype`, label (N, Z, Y, X) uint8; N = batch_size / world. Of image alone where no
        volume has a label.
    Raises:
        What Server.stream() raises. An error of the stream ends the iteration with a tf.errors.OpError that holds its message.
    """
    connection = server if isinstance(server, Server) else connect(server, wait_s=reconnect_s)
    arguments: dict[str, Any] = {
        "patch": tuple(patch),
        "batch_size": batch_size,
        "seed": seed,
        "rank": rank,
        "world": world,
        "image_dtype": image_dtype,
        "transport": transport,
        "prefetch": prefetch,
        "reconnect_s": reconnect_s,
        "step_timeout_s": step_timeout_s,
        "hedge_s": hedge_s,
        "volumes": volumes,
    }
    first = connection.stream(recipe, start=start, steps=steps, state=state, **arguments)  # checks the arguments; calls nothing yet
    stop = _ENDLESS if first.stop is None else first.stop
    if not stop <= _ENDLESS:
        raise RequestError(f"start + steps: got {stop}; allowed for a tf.data.Dataset: below 2**63")
    held = connection.dataset()
    infos = [held.info(id) for id in volumes or held.volumes]
    all_channels = {info.shape[0] for info in infos}
    if len(all_channels) != 1:
        raise RequestError(f"the volumes have {sorted(all_channels)} channels; a tf.data.Dataset has one static shape: serve them apart")
    [channels] = all_channels
    samples = batch_size // world
    last_shape = (samples, *first.patch, channels)
    has_label = any(info.has_label for info in infos)

    def open_stream(step: int) -> Stream:
        return connection.stream(recipe, start=start, steps=steps, state={**token, "step": step}, **arguments)

    token = first.state_dict()
    fetcher = _Fetcher(open_stream, has_label)
    weak = weakref.ref(fetcher)

    def fetch(step: np.int64) -> tuple[NDArray[Any], ...]:
        alive = weak()
        if alive is None:
            raise StateError("the tf.data.Dataset of this stream is gone; keep it as long as its iterators")
        return alive.fetch(int(step))

    def batch_of(step: tf.Tensor) -> Any:
        # stateless as far as TensorFlow is concerned: a step has one batch, whoever asks and how often
        types = (tf.as_dtype(image_dtype), tf.uint8) if has_label else (tf.as_dtype(image_dtype),)
        image, *label = tf.numpy_function(fetch, [step], types, stateful=False)
        image = tf.ensure_shape(image, (samples, channels, *first.patch))
        # a reshape copies nothing
        image = tf.reshape(image, last_shape) if channels == 1 else tf.transpose(image, (0, 2, 3, 4, 1))
        return (image, tf.ensure_shape(label[0], (samples, *first.patch))) if has_label else image

    options = tf.data.Options()
    options.experimental_symbolic_checkpoint = True  # or the batches that wait in prefetch would be saved as well
    options.experimental_optimization.map_parallelization = False  # calls in disorder would reopen the stream for every batch
    data = tf.data.Dataset.range(first.next_step, stop).map(batch_of).prefetch(1).with_options(options)
    # TensorFlow never lets go of a numpy_function, but iterators and derived datasets keep this object: the stream ends with the last
    data._augclient_fetcher = fetcher
    return data


class _Fetcher:
    """Gives the batch of a step; reads on in an open stream where it can."""

    def __init__(self, open_stream: Callable[[int], Stream], has_label: bool) -> None:
        self._open_stream = open_stream
        self._has_label = has_label
        self._lock = threading.Lock()
        self._stream: Stream | None = None

    def fetch(self, step: int) -> tuple[NDArray[Any], ...]:
        """Image and label (or image alone) of the batch `step`; what the stream raises."""
        with self._lock:
            if self._stream is None or self._stream.next_step != step:
                self._close()
                self._stream = self._open_stream(step)
            try:
                batch = next(self._stream)
            except BaseException:
                self._close()  # whoever asks again gets a new stream
                raise
        if not self._has_label:
            return (batch.image,)
        if batch.label is None:
            raise WireError(f"batch {step} came without labels, though the dataset has some")
        return batch.image, batch.label

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
