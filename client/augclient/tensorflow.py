"""A stream as a tf.data.Dataset, without a compiled plugin.

Batches are addressed by number, so the dataset is a range of numbers and a function from a number to its batch:

    range -> scan: the numbers of this pass -> map(fetch, through tf.numpy_function) -> prefetch -> map(note: delivered)

Where a pass begins is asked for with its first element, and is part of the iterator's state from then on: tf.train.Checkpoint saves numbers
alone (symbolic checkpoints), no voxels. One stream stands behind `fetch`; it is opened at the first number that is asked for, and again
if the numbers jump: at the next pass, or after a restored checkpoint. With one channel the arrays pass into TensorFlow uncopied; with
more they are transposed to channels last once, in TensorFlow.
"""

from __future__ import annotations

import secrets
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
from augclient.stream.spec import PASSES, check_int
from augclient.tls_files import TlsConfig

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
    token: str | None = None,
    tls: TlsConfig | bool | None = None,
    timeout_s: float = 30.0,
    receiver: str = "auto",
    passes: str = "continue",
) -> tf.data.Dataset:
    """Batches of (image, label), in order, each exactly once, static in shape.

    `steps` is the length of a pass over the dataset (an epoch).

        passes="continue"   a pass goes on with the batches behind those of the last one: start, start + steps, start + 2 steps, ...
        passes="same"       every pass is the same batches, start to start + steps: for validation

    A pass that is broken off (`break`, or ds.take(1)) is followed by a whole one, from the first batch on that no iterator has returned;
    what a prefetch, a shuffle or the like of yours has taken counts as returned. Of two iterators at once, as in zip(ds, ds), the older
    one fails when it goes on, as it would return batches a second time: take passes="same", or a dataset for each.

    To resume: put the dataset's iterator into a tf.train.Checkpoint, or pass `state`, a token of state_dict() or of a Stream's; either goes
    on at the next batch that the iterator has not returned, and a pass that was under way has its rest. A checkpoint of an iterator
    between two passes says nothing of the next one: save state_dict(ds) beside it.

    Args:
        server: a Server, which must stay open, or an address to connect to, where a server is waited for as long as reconnect_s.
        recipe, patch, batch_size, ..., volumes: as for Server.stream(). `start` + `steps` < 2**63.
        token, tls, timeout_s, receiver: as for connect(); with an address alone.
    Returns:
        tf.data.Dataset of image (N, Z, Y, X, C) of `image_dtype`, label (N, Z, Y, X) uint8; N = batch_size / world. Of image alone where no
        volume has a label.
    Raises:
        What Server.stream() raises. An error of the stream ends the iteration with a tf.errors.OpError that holds its message.
    """
    if passes not in PASSES:
        raise RequestError(f"passes: got {passes!r}; allowed: {', '.join(PASSES)}")
    connect_arguments: dict[str, Any] = {"token": token, "tls": tls, "timeout_s": timeout_s, "receiver": receiver}
    if isinstance(server, Server):
        if connect_arguments != {"token": None, "tls": None, "timeout_s": 30.0, "receiver": "auto"}:
            raise RequestError("token, tls, timeout_s, receiver: they go with an address; give them to connect() where a Server is made")
        connection = server
    else:
        connection = connect(server, wait_s=reconnect_s, **connect_arguments)
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
    first = connection.stream(recipe, start=start, state=state, **arguments)  # checks the arguments; calls nothing yet
    if steps is not None:
        check_int("steps", steps, 0, (1 << 64) - 1)
    if not start + (steps or 0) <= _ENDLESS:
        raise RequestError(f"start + steps: got {start + (steps or 0)}; allowed for a tf.data.Dataset: below 2**63")
    held = connection.dataset()
    infos = [held.info(id) for id in volumes or held.volumes]
    all_channels = {info.shape[0] for info in infos}
    if len(all_channels) != 1:
        raise RequestError(f"the volumes have {sorted(all_channels)} channels; a tf.data.Dataset has one static shape: serve them apart")
    [channels] = all_channels
    samples = batch_size // world
    last_shape = (samples, *first.patch, channels)
    has_label = any(info.has_label for info in infos)

    def open_stream(step: int, stop: int) -> Stream:
        return connection.stream(recipe, start=step, steps=None if stop == _ENDLESS else stop - step, **arguments)

    stop = None if state is None else state.get("pass_stop")
    course = _Course(start, steps, first.state_dict(), stop, goes_on=passes == "continue")
    fetcher = _Fetcher(open_stream, course, has_label)
    weak = weakref.ref(fetcher)

    def alive() -> _Fetcher:
        fetcher = weak()
        if fetcher is None:
            raise StateError("the tf.data.Dataset of this stream is gone; keep it as long as its iterators")
        return fetcher

    def begin(place: np.int64) -> NDArray[np.int64]:  # without an input TensorFlow would ask once and take the answer for a constant
        return np.array(alive().course.begin(), np.int64)

    def fetch(step: np.int64, stop: np.int64) -> tuple[NDArray[Any], ...]:
        return alive().fetch(int(step), int(stop))

    def note(step: np.int64, stop: np.int64, iterator: np.int64) -> NDArray[np.int64]:
        alive().course.deliver(int(step), int(stop), int(iterator))
        return np.array(last_shape, np.int64)

    # Stateless as far as TensorFlow is concerned, all three: else it refuses to save an iterator.
    def number(where: tf.Tensor, place: tf.Tensor) -> Any:
        begun = tf.cond(where[0] < 0, lambda: tf.numpy_function(begin, [place], tf.int64, stateful=False), lambda: where)
        begun = tf.ensure_shape(begun, (3,))
        return begun, (begun[0] + place, begun[1], begun[2])

    def batch_of(step: tf.Tensor, stop: tf.Tensor, iterator: tf.Tensor) -> Any:
        types = (tf.as_dtype(image_dtype), tf.uint8) if has_label else (tf.as_dtype(image_dtype),)
        image, *label = tf.numpy_function(fetch, [step, stop], types, stateful=False)
        return (step, stop, iterator), tf.ensure_shape(image, (samples, channels, *first.patch)), *label

    def deliver(which: Any, image: tf.Tensor, *label: tf.Tensor) -> Any:
        # a reshape copies nothing, and TensorFlow cannot leave out what gives it its shape, as it does not know that it is the old one
        image = tf.reshape(image, tf.numpy_function(note, which, tf.int64, stateful=False))
        image = tf.ensure_shape(image, last_shape)
        return (image, tf.ensure_shape(label[0], (samples, *first.patch))) if has_label else image

    def channels_last(which: Any, image: tf.Tensor, *label: tf.Tensor) -> Any:
        return which, tf.reshape(tf.transpose(image, (0, 2, 3, 4, 1)), (-1,)), *label

    options = tf.data.Options()
    options.experimental_symbolic_checkpoint = True  # or the batches that wait in prefetch would be saved as well
    options.experimental_optimization.map_parallelization = False  # calls in disorder would reopen the stream for every batch
    options.experimental_optimization.inject_prefetch = False  # behind ours, where it would take batches that nobody has asked for
    data = tf.data.Dataset.range(_ENDLESS - start if steps is None else steps)
    data = data.scan(tf.constant([-1, 0, 0], tf.int64), number)
    if course.begins_within:  # the first pass is shorter than the others, so that their number of elements is not known
        data = data.take_while(lambda step, stop, iterator: step < stop)
    data = data.map(batch_of)
    data = (data if channels == 1 else data.map(channels_last)).prefetch(1).map(deliver).with_options(options)
    # TensorFlow never lets go of a numpy_function, but iterators and derived datasets keep this object: the stream ends with the last
    data._augclient_fetcher = fetcher
    return data


def state_dict(data: tf.data.Dataset) -> dict[str, Any]:
    """A token for `state=`: go on behind the last batch that an iterator of this dataset has returned.

    Args:
        data: what dataset() returned, not a dataset made of it.
    """
    return _course_of(data).state_dict()


def set_epoch(data: tf.data.Dataset, epoch: int) -> None:
    """Let the next pass be that of this number: the batches from start + epoch * steps on; without `steps` nothing happens.

    Args:
        data: as for state_dict().
    """
    check_int("epoch", epoch, 0, _ENDLESS)
    _course_of(data).set_epoch(epoch)


def _course_of(data: tf.data.Dataset) -> _Course:
    fetcher = getattr(data, "_augclient_fetcher", None)
    if not isinstance(fetcher, _Fetcher):
        raise RequestError(f"data: got {type(data).__name__}; allowed: what dataset() of this module returned, not a dataset made of it")
    return fetcher.course


class _Course:
    """Where the passes over a dataset stand: which batch comes next, and which iterator returns it.

    An iterator is known by a number, in its state from its first element on: of two numbers that this process gave, the larger is the newer
    iterator; any other one comes from a restored checkpoint.
    """

    def __init__(self, start: int, steps: int | None, token: dict[str, Any], stop: int | None, *, goes_on: bool) -> None:
        self._start = start
        self._steps = steps
        self._token = token
        self._goes_on = goes_on
        self._lock = threading.Lock()
        self._next: int = token["step"]
        self._stop: int | None = None  # of the pass under way, or of the loaded one
        self._origin = start  # of passes that are the same
        self._loaded = self._next != start
        if self._loaded and steps:
            aligned = start + -((start - self._next) // steps) * steps  # passes lie side by side
            self._stop = stop if isinstance(stop, int) and stop >= self._next else aligned
            self._loaded = self._next < self._stop
            self._origin = max(self._stop - steps, start)
        self._ids = secrets.randbits(31) << 32  # below 2**63, and of no other process
        self._newest = self._ids
        self._owner = 0
        self._begun: dict[int, int] = {}  # iterators that have returned nothing, and where they begin

    @property
    def begins_within(self) -> bool:
        """Whether a state was loaded that is in the middle of a pass."""
        return self._loaded and self._stop is not None and self._stop - self._next != self._steps

    def begin(self) -> tuple[int, int, int]:
        """First step, stop and number of a new iterator."""
        with self._lock:
            self._newest += 1
            loaded, self._loaded = self._loaded, False
            self._next = step = self._next if self._goes_on or loaded else self._origin
            if self._steps is not None and not (loaded and self._stop is not None):
                self._stop = step + self._steps
            stop = _ENDLESS if self._stop is None else self._stop
            self._begun[self._newest] = step
            return step, stop, self._newest

    def deliver(self, step: int, stop: int, iterator: int) -> None:
        """The iterator is about to return batch `step`; StateError where that would be a second time."""
        with self._lock:
            begun = self._begun.pop(iterator, None)
            overtaken = self._ids < iterator < self._owner <= self._newest
            if self._goes_on and (overtaken or (begun is not None and step != self._next)):
                raise StateError(
                    f"batch {step}: another iterator of this dataset has gone on meanwhile, and this one would return its batches again;"
                    ' use one at a time, make a dataset for each, or take passes="same"'
                )
            self._owner = iterator
            self._next, self._stop = step + 1, None if stop == _ENDLESS else stop

    def state_dict(self) -> dict[str, Any]:
        """See above."""
        with self._lock:
            token = {**self._token, "step": self._next}
            return token if self._stop is None else {**token, "pass_stop": self._stop}

    def set_epoch(self, epoch: int) -> None:
        """See above."""
        if self._steps is not None:
            with self._lock:
                self._next = self._origin = self._start + epoch * self._steps
                self._stop, self._loaded = None, False


class _Fetcher:
    """Gives the batch of a step; reads on in an open stream where it can."""

    def __init__(self, open_stream: Callable[[int, int], Stream], course: _Course, has_label: bool) -> None:
        self.course = course
        self._open_stream = open_stream
        self._has_label = has_label
        self._lock = threading.Lock()
        self._stream: Stream | None = None

    def fetch(self, step: int, stop: int) -> tuple[NDArray[Any], ...]:
        """Image and label (or image alone) of the batch `step`, in a pass up to `stop`; what the stream raises."""
        with self._lock:
            if self._stream is None or self._stream.next_step != step or step == self._stream.stop:
                self._close()
                self._stream = self._open_stream(step, stop)
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
