"""Ctrl-C at any bytecode of next(): nothing is skipped, nothing comes twice, nothing hangs, and only KeyboardInterrupt is raised."""

from __future__ import annotations

import contextlib
import gc
import itertools
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import augclient
import numpy as np
import pytest

from augserver.config import parse_config
from augserver.kernel import open_backend
from augserver.service.server import Server
from augserver.store import Dataset, DatasetWriter

PATCH = (3, 5, 7)
RECIPE = augclient.Recipe(crop={"mode": "uniform"}, noise={"std": [1, 30]})
INSIDE = str(Path(augclient.__file__).parent)
# Below these a call is cancelled under a lock. Between a `with` block's end and the lock's release Python looks for no interrupt, but a
# trace function can raise one there.
LOCKED = str(Path(augclient.__file__).parent / "wire")

pytestmark = pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals need the main thread")


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    path = tmp_path_factory.mktemp("interrupts") / "toy.zarr"
    with DatasetWriter(path, modality="ct", classes={1: "one"}) as writer:
        for k in range(3):
            image = np.random.default_rng(k).integers(-1000, 1000, (1, 9, 11, 13)).astype(np.int16)
            writer.write(f"case_{k}", image, (image[0] > 0).astype(np.uint8), (1.0, 1.0, 1.0), np.eye(4), {})
        writer.finish()
    dataset = Dataset.open(path)
    servers = [Server(dataset, open_backend("cpu", threads=1), parse_config({"listen": {"address": "127.0.0.1:0"}})) for _ in range(2)]
    for server in servers:
        server.start()
    yield [f"127.0.0.1:{server.port}" for server in servers]
    for server in servers:
        server.drain()
        server.stop()


@pytest.fixture(params=["local", "grpc", "fleet"])
def open_stream(request: pytest.FixtureRequest, addresses: list[str]) -> Iterator[Callable[..., Any]]:
    """Opens a stream over this transport; `fleet`: from two servers."""
    fleet = request.param == "fleet"
    with augclient.connect(addresses if fleet else addresses[0]) as server:

        def make(**how: Any) -> Any:
            return server.stream(RECIPE, transport="auto" if fleet else request.param, patch=PATCH, batch_size=2, prefetch=2, **how)

        yield make


@pytest.fixture(scope="module")
def wanted(addresses: list[str]) -> list[bytes]:
    with augclient.connect(addresses[0]) as server:
        stream = server.stream(RECIPE, patch=PATCH, batch_size=2, steps=200, transport="grpc")
        return [batch.image.tobytes() for batch in stream]


def receivers() -> list[str]:
    """Threads that receive for a stream. A second one of a receiver, which an interrupt of its start can make, gets time to end."""
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("augclient-")]
    if any(thread.name == "augclient-fleet" for thread in threads):
        threads = [thread for thread in threads if thread.name == "augclient-fleet"]
    if len(threads) > 1:
        for thread in threads:
            thread.join(1.0)
    return [thread.name for thread in threads if thread.is_alive() and thread.name.startswith(("augclient-127", "augclient-fleet"))]


class Interrupt:
    """Raises KeyboardInterrupt in this thread before the `at`-th event (call, line, bytecode, return) of the client's code."""

    def __init__(self, at: int) -> None:
        self._left = at
        self.hit = ""

    def __enter__(self) -> Interrupt:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: Any, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(INSIDE) or name.startswith(LOCKED):
            return None
        frame.f_trace_opcodes = True
        self._left -= 1
        if self._left == 0:
            sys.settrace(None)
            self.hit = f"{event} {frame.f_code.co_filename}:{frame.f_lineno}"
            raise KeyboardInterrupt
        return self._trace


@pytest.mark.slow
def test_an_interrupt_at_every_bytecode_of_next(open_stream: Callable[..., Any], wanted: list[bytes]) -> None:
    hits = 0
    for fresh in (True, False):  # the first next() of a stream, and a later one
        at = 0
        while True:
            at += 1
            with open_stream(steps=200) as stream:
                got = [] if fresh else [next(stream)]
                due = len(got)
                interrupt = Interrupt(at)
                try:
                    with interrupt:
                        got.append(next(stream))
                except KeyboardInterrupt:
                    hits += 1
                if not interrupt.hit:
                    break
                assert stream.next_step == len(got), interrupt.hit
                got += [next(stream), next(stream)]
                assert [batch.step for batch in got] == list(range(len(got))), interrupt.hit
                assert [batch.image.tobytes() for batch in got] == wanted[: len(got)], interrupt.hit
                assert len(got) >= due + 2
                assert len(receivers()) == 1, (interrupt.hit, receivers())
            assert receivers() == [], interrupt.hit
    assert hits > 400


@pytest.mark.slow
def test_thousands_of_interrupts_at_random_times(open_stream: Callable[..., Any], wanted: list[bytes]) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    random_ = random.Random(seed)
    armed, hits, doubled = False, 0, []

    def interrupt(*_: object) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        while hits < 1500:
            with open_stream(steps=200) as stream:
                got: list[tuple[int, bytes]] = []
                while stream.next_step < 200:
                    due, batch = stream.next_step, None
                    try:
                        armed = True
                        signal.setitimer(signal.ITIMER_REAL, random_.uniform(20e-6, 2e-3))
                        batch = next(stream)
                        armed = False
                    except KeyboardInterrupt:
                        hits += 1
                    armed = False
                    if batch is not None:
                        assert batch.step == due
                        got.append((batch.step, batch.image.tobytes()))
                    elif stream.next_step != due:  # next() had returned; the interrupt hit the test
                        got.append((due, wanted[due]))
                        doubled.append(due)
                assert got == list(enumerate(wanted))
                assert len(receivers()) <= 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(doubled) < hits / 10


@pytest.mark.slow
def test_an_interrupt_at_every_fifth_bytecode_while_a_lost_batch_is_asked_for_again(
    open_stream: Callable[..., Any], wanted: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Python drops an interrupt of a slot's __del__; pytest's hook would keep its frames, and with them the slot's connection
    hook = sys.unraisablehook
    monkeypatch.setattr(sys, "unraisablehook", lambda one: None if one.exc_type is KeyboardInterrupt else hook(one))
    hit, at = "before", 0
    while hit:
        at += 5
        with open_stream(steps=200) as stream:
            got = [next(stream)]
            receiver = stream._delivery._receiver
            assert receiver.wait(1)
            receiver.ready.popleft()  # as an interrupt between a batch's leaving the receiver and next()'s return does
            interrupt = Interrupt(at)
            with contextlib.suppress(KeyboardInterrupt), interrupt:
                got.append(next(stream))
            hit = interrupt.hit
            got += [next(stream), next(stream)]
            assert [batch.step for batch in got] == list(range(len(got))), hit
            assert [batch.image.tobytes() for batch in got] == wanted[: len(got)], hit
            assert len(receivers()) == 1, (hit, receivers())
        assert receivers() == [], hit
    assert at > 100


@pytest.mark.slow
@pytest.mark.parametrize("end", ["close", "the last next"])
def test_an_interrupt_at_every_bytecode_of_the_end_leaves_no_thread(open_stream: Callable[..., Any], end: str) -> None:
    hit, at = "before", 0
    while hit:
        at += 1
        stream = open_stream(steps=1)
        next(stream)
        interrupt = Interrupt(at)
        with contextlib.suppress(KeyboardInterrupt), interrupt:
            stream.close() if end == "close" else next(stream, None)
        hit = interrupt.hit
        assert stream.next_step == 1, hit
        with pytest.raises(StopIteration):
            next(stream)
        assert receivers() == [], hit
    assert at > 50


def test_an_interrupted_stream_that_is_forgotten_ends_its_thread_and_returns_its_slots(open_stream: Callable[..., Any]) -> None:
    for at in (5, 50, 150, 250):
        stream = open_stream()
        next(stream)
        with pytest.raises(KeyboardInterrupt), Interrupt(at):
            list(itertools.islice(stream, 9))
        del stream
        gc.collect()
        assert receivers() == []
