"""The client's end of shared memory: what it accepts from a socket, and what becomes of leases, tensors, forks and greed."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import mmap
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import augclient
import numpy as np
import pytest
from augclient import errors
from augclient.local import RingLink, open_link
from augclient.local.protocol import SEALS, decode_release, encode_hello, encode_ring

from augserver.config import parse_config
from augserver.kernel import open_backend
from augserver.service.server import Server
from augserver.store import Dataset, DatasetWriter

PAGE = mmap.PAGESIZE
TOKEN = bytes(range(32))
PATCH = (5, 7, 9)
RECIPE = augclient.Recipe(crop={"mode": "uniform"}, affine={"rotate_deg": 15}, noise={"std": [1, 30]})


def sealed(pages: int = 3, seals: int = SEALS) -> tuple[int, mmap.mmap]:
    """A memfd as a server makes it, and its writable mapping."""
    descriptor = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, pages * PAGE)
    mapped = mmap.mmap(descriptor, pages * PAGE)
    if seals:
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor, mapped


class ByHand:
    """A server's socket of which the test says every word."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(self.path)
        self._listener.listen()
        self.peer: socket.socket | None = None

    def link(self, hello: bytes = encode_hello(TOKEN), **how: Any) -> RingLink:
        """The client's end, once the server has said `hello`."""
        accepted = threading.Thread(target=self._greet, args=(hello,))
        accepted.start()
        try:
            return open_link(self.path, **how)
        finally:
            accepted.join()

    def _greet(self, hello: bytes) -> None:
        if self.peer is not None:
            self.peer.close()
        self.peer, _ = self._listener.accept()
        self.peer.settimeout(10)
        if hello:
            self.peer.send(hello)
        else:
            self.peer.close()

    def give(self, descriptor: int, size_bytes: int) -> None:
        assert self.peer is not None
        socket.send_fds(self.peer, [encode_ring(size_bytes)], [descriptor])

    def released(self) -> int:
        """The lease that the client returns next."""
        assert self.peer is not None
        return decode_release(self.peer.recv(64))

    def close(self) -> None:
        self._listener.close()
        if self.peer is not None:
            self.peer.close()


@pytest.fixture
def by_hand(tmp_path: Path) -> Iterator[ByHand]:
    server = ByHand(tmp_path / "hand.sock")
    yield server
    server.close()


@pytest.fixture
def ring(by_hand: ByHand) -> Iterator[Callable[..., tuple[RingLink, mmap.mmap]]]:
    """A link with mapped memory, and the server's mapping of it."""
    opened: list[int] = []

    def make(**how: Any) -> tuple[RingLink, mmap.mmap]:
        link = by_hand.link(**how)
        descriptor, mapped = sealed()
        opened.append(descriptor)
        by_hand.give(descriptor, 3 * PAGE)
        link.map_ring()
        return link, mapped

    yield make
    for descriptor in opened:
        os.close(descriptor)


def test_why_there_is_no_shared_memory_is_said(tmp_path: Path, by_hand: ByHand) -> None:
    with pytest.raises(errors.StateError, match="another host, or its folder is not shared"):
        open_link(str(tmp_path / "nowhere.sock"))
    dead = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as corpse:
        corpse.bind(os.fspath(dead))
    with pytest.raises(errors.UnavailableError, match="nobody listens"):
        open_link(str(dead))
    with pytest.raises(errors.StateError, match="longer than the 107 bytes"):
        open_link("/" + "x" * 200)
    with pytest.raises(errors.StateError, match=r"closed .* at once: it takes no more clients, or not this user"):
        by_hand.link(b"")


@pytest.mark.parametrize("hello", [b"x", encode_hello(TOKEN)[:-1], b"SSH-2.0-OpenSSH_9.6", encode_ring(4096)])
def test_what_is_no_augserver_is_refused(by_hand: ByHand, hello: bytes) -> None:
    with pytest.raises(errors.WireError, match="due is b'AUGH'"):
        by_hand.link(hello)


def test_another_release_is_named(by_hand: ByHand) -> None:
    with pytest.raises(errors.WireError, match="speaks version 258, this client version 1"):
        by_hand.link(b"AUGH\2\1\0\0" + TOKEN)


def test_a_silent_server_is_not_waited_for_longer_than_said(by_hand: ByHand) -> None:
    with pytest.raises(errors.DeadlineError, match=r"within 0\.05 s"):
        open_link(by_hand.path, timeout_s=0.05)  # connected, as the backlog takes it; nobody accepts


def test_memory_that_does_not_come_is_not_waited_for_longer_than_said(by_hand: ByHand) -> None:
    link = by_hand.link(timeout_s=0.05)
    with pytest.raises(errors.DeadlineError, match=r"no memory within 0\.05 s"):
        link.map_ring()


def test_memory_that_could_shrink_under_its_reader_is_refused(by_hand: ByHand) -> None:
    for seals, size in ((SEALS & ~0x02, 3 * PAGE), (0, 3 * PAGE), (SEALS & ~0x10, 3 * PAGE), (SEALS, 4 * PAGE)):
        link = by_hand.link()
        descriptor, _ = sealed(seals=seals)
        by_hand.give(descriptor, size)
        os.close(descriptor)
        with pytest.raises(errors.WireError, match="the server's memory has seals"):
            link.map_ring()
    link = by_hand.link()
    with open(__file__, "rb") as file:
        by_hand.give(file.fileno(), PAGE)
    with pytest.raises(errors.WireError, match="no memfd"):
        link.map_ring()


@pytest.mark.parametrize("stretch", [(0, 3 * PAGE + 1), (3 * PAGE, 64), (32, 64), (2**63, 64), (PAGE, 2**62)])
def test_a_slot_outside_the_memory_is_refused(ring: Callable[..., Any], stretch: tuple[int, int]) -> None:
    link, _ = ring()
    with pytest.raises(errors.WireError, match="a slot claims bytes"):
        link.view(1, (stretch,))
    assert link.held == 0


def test_a_lease_that_is_held_is_not_given_twice(ring: Callable[..., Any]) -> None:
    link, _ = ring()
    kept = link.view(7, ((0, 64),))
    with pytest.raises(errors.WireError, match="lease 7 was given twice"):
        link.view(7, ((PAGE, 64),))
    assert len(kept[0]) == 64


def test_the_lease_ends_with_the_last_view_of_either_array(ring: Callable[..., Any], by_hand: ByHand) -> None:
    link, server = ring()
    server[PAGE : PAGE + 4] = b"abcd"
    image, label = link.view(5, ((PAGE, 64), (PAGE + 128, 64)))
    assert bytes(image[:4]) == b"abcd"
    assert image.ctypes.data % 64 == label.ctypes.data % 64 == 0
    assert not image.flags.writeable
    middle = image.view(np.uint16).reshape(2, 16)[1]
    del image
    assert link.held == 1
    del label
    assert link.held == 1
    del middle
    assert link.held == 0
    assert by_hand.released() == 5


def test_arrays_outlive_the_link_and_the_server(ring: Callable[..., Any], by_hand: ByHand) -> None:
    link, server = ring()
    server[:4] = b"abcd"
    [image] = link.view(1, ((0, 64),))
    server.close()
    by_hand.close()
    del link
    gc.collect()
    assert bytes(image[:4]) == b"abcd"
    del image  # returning the lease to nobody is no error


def test_a_forked_child_returns_no_lease_and_holds_no_socket(ring: Callable[..., Any], by_hand: ByHand) -> None:
    link, _ = ring()
    arrays = link.view(1, ((0, 64),))
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:  # drops its copy of the array, and lives on
        arrays.clear()
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os._exit(0)
    try:
        os.read(ready[0], 1)
        assert link.held == 1
        del link
        arrays.clear()  # in the parent: the lease, then the socket
        assert by_hand.released() == 1
        assert by_hand.peer is not None
        assert by_hand.peer.recv(64) == b""  # though the child lives
    finally:
        os.write(go[1], b"x")
        os.waitpid(child, 0)
        for end in (*ready, *go):
            os.close(end)


@pytest.mark.parametrize("pagemap", [True, False])
def test_what_a_trainer_writes_is_its_own_and_gone_with_the_lease(
    ring: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, pagemap: bool
) -> None:
    if not pagemap:
        monkeypatch.setattr("augclient.local.private_copies.os.open", lambda *_: (_ for _ in ()).throw(FileNotFoundError()))
    link, server = ring(writable=True)
    server[:] = b"\1" * len(server)
    [image] = link.view(1, ((PAGE, PAGE + 100),))
    image[PAGE + 50] = 77
    assert server[2 * PAGE + 50] == 1
    del image
    server[:] = b"\2" * len(server)
    [again] = link.view(2, ((PAGE, PAGE + 100),))
    assert np.unique(again).tolist() == [2]


# ---------------------------------------------------------------- streams on a real server in this process


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path: Path = tmp_path_factory.mktemp("store") / "toy.zarr"
    affine = np.array([[0.0, 0.0, 0.5, 7.0], [0.0, 1.0, 0.0, -3.0], [3.0, 0.0, 0.0, 11.0], [0.0, 0.0, 0.0, 1.0]])
    with DatasetWriter(path, modality="ct", classes={1: "liver", 2: "bone"}) as writer:
        for seed, id_ in enumerate(("case_1", "case_2", "case_3")):
            rng = np.random.default_rng(seed)
            image = rng.integers(-1000, 1500, (1, 8, 11, 17 + seed)).astype(np.int16)
            writer.write(id_, image, rng.integers(0, 3, (8, 11, 17 + seed)).astype(np.uint8), (3.0, 1.0, 0.5), affine, {})
        writer.finish()
    return Dataset.open(path)


@pytest.fixture
def start(dataset: Dataset, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    with contextlib.ExitStack() as stack:

        def make(**sections: Any) -> Server:
            config = {"listen": {"address": "127.0.0.1:0"}, "local": {"folder": str(tmp_path / "run")}} | sections
            server = Server(dataset, open_backend("cpu", threads=1), parse_config(config))
            server.start()
            stack.callback(server.stop)
            return server

        yield make


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a state that no event announces; the deadline fails the test, the poll only paces it."""
    pace = threading.Event()
    for _ in range(1000):
        if condition():
            return
        pace.wait(0.01)
    raise AssertionError("state not reached in 10 s")


def in_ring(address: int) -> bool:
    """Whether an address lies in a mapping of a server's ring."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(each, 16) for each in line.split()[0].split("-"))
        if first <= address < last:
            return "memfd:augserver-ring" in line
    return False


def test_auto_takes_shared_memory_and_says_so(start: Callable[..., Server], caplog: pytest.LogCaptureFixture) -> None:
    server = start()
    with (
        caplog.at_level("INFO", "augclient"),
        augclient.connect(str(server.address)) as client,
        client.stream(RECIPE, patch=PATCH, batch_size=2, steps=3) as stream,
    ):
        assert stream.transport is None
        for batch in stream:
            assert in_ring(batch.image.ctypes.data)
            assert batch.image.ctypes.data % 64 == 0
            assert not batch.image.flags.writeable
        assert stream.transport == "local"
        assert "shares memory through" in stream.transport_reason
        assert stream.statistics().shared == 3
    assert sum("batches come over" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("local", "words"),
    [({"mode": "off"}, "the server has no local socket"), ({"folder": "/proc/none"}, "the server has no local socket")],
)
def test_without_a_socket_auto_says_why_and_local_fails(start: Callable[..., Server], local: dict[str, str], words: str) -> None:
    server = start(local=local)
    with augclient.connect(str(server.address)) as client:
        with client.stream(RECIPE, patch=PATCH, batch_size=2, steps=1) as stream:
            assert next(stream).image.flags.writeable
            assert stream.transport == "grpc"
            assert words in stream.transport_reason
        with pytest.raises(errors.StateError, match=f'transport="local": {words}'):
            next(client.stream(RECIPE, patch=PATCH, batch_size=2, transport="local"))


def test_a_socket_that_is_asked_for_and_cannot_be_made_keeps_the_server_from_starting(start: Callable[..., Server]) -> None:
    with pytest.raises(errors.StateError, match=r"local\.folder /proc/none"):
        start(local={"folder": "/proc/none", "mode": "on"})


def test_a_budget_too_small_for_the_ring_is_named_and_auto_goes_over_grpc(start: Callable[..., Server]) -> None:
    server = start(streams={"max_stream_bytes": 1 << 20})
    how = {"patch": (8, 11, 17), "batch_size": 24, "prefetch": 24, "steps": 40}  # 0.2 MB a batch
    with augclient.connect(str(server.address)) as client:
        with pytest.raises(errors.BudgetError, match=r"streams\.max_stream_bytes = 1048576"):
            next(client.stream(RECIPE, transport="local", **how))
        with client.stream(RECIPE, **how) as stream:
            assert sum(1 for _ in stream) == 40
            assert stream.transport == "grpc"
            assert "max_stream_bytes" in stream.transport_reason


def test_a_greedy_trainer_gets_copies_and_every_batch_stays_what_it_was(start: Callable[..., Server]) -> None:
    server = start()
    with augclient.connect(str(server.address)) as client:
        with client.stream(RECIPE, patch=PATCH, batch_size=2, steps=30, transport="grpc") as stream:
            wanted = [(batch.step, batch.image.tobytes(), batch.label.tobytes()) for batch in stream]
        with client.stream(RECIPE, patch=PATCH, batch_size=2, steps=30) as stream:
            kept = list(stream)
            statistics = stream.statistics()
        assert [(batch.step, batch.image.tobytes(), batch.label.tobytes()) for batch in kept] == wanted
        assert (statistics.shared, statistics.copied) == (30, 24)  # prefetch 2 and 4 for the trainer have leases
        wait_until(lambda: server.slots.statistics().leased == 6)  # the others were given back over the socket


def test_a_greedy_trainer_that_wants_no_copies_is_told_to_let_go(start: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("augclient.stream.road.HELD_WAIT_S", 0.2)
    server = start()
    with augclient.connect(str(server.address)) as client:
        stream = client.stream(RECIPE, patch=PATCH, batch_size=2, steps=30, transport="local")
        kept = []
        with pytest.raises(errors.BudgetError, match=r"6 batches of this stream are held.*drop or release"):
            kept.extend(stream)
        state = stream.state_dict()
        steps = [batch.step for batch in kept]
        kept.clear()
        with client.stream(RECIPE, patch=PATCH, batch_size=2, steps=30, transport="local", state=state) as rest:
            steps += [batch.step for batch in rest]
    assert steps == list(range(30))


def test_closing_a_stream_that_waits_for_a_lease_does_not_wait(start: Callable[..., Server]) -> None:
    server = start()
    with augclient.connect(str(server.address)) as client:
        stream = client.stream(RECIPE, patch=PATCH, batch_size=2, steps=30, transport="local")
        kept = [next(stream) for _ in range(5)]
        wait_until(lambda: stream.statistics().held == 6)
        stream.close()  # HELD_WAIT_S is 30
        assert [batch.step for batch in kept] == list(range(5))


def test_batches_are_valid_after_stream_and_server_and_their_memory_goes_back_after_them(start: Callable[..., Server]) -> None:
    server = start()
    with augclient.connect(str(server.address)) as client:
        with client.stream(RECIPE, patch=PATCH, batch_size=2, steps=3) as stream:
            kept = next(stream)
        before = kept.image.tobytes()
        wait_until(lambda: server.scheduler.statistics().streams == 0)
        assert server.slots.statistics().reserved_bytes > 0  # the client maps it
        view = kept.image[1:, 0, 2]
        kept.release()
        assert server.slots.statistics().shared_rings == 1
        del view
        wait_until(lambda: server.slots.statistics().reserved_bytes == 0)
        with client.stream(RECIPE, patch=PATCH, batch_size=2, steps=1) as stream:
            kept = next(stream)
    server.drain()
    assert kept.image.tobytes() == before


def test_a_stream_that_loses_its_server_goes_on_with_the_next_one_on_a_new_ring(
    start: Callable[..., Server], dataset: Dataset, tmp_path: Path
) -> None:
    server = start()
    address = str(server.address)
    with augclient.connect(address) as client:
        with client.stream(RECIPE, patch=PATCH, batch_size=2, steps=20, transport="grpc") as stream:
            wanted = [batch.image.tobytes() for batch in stream]
        with client.stream(RECIPE, patch=PATCH, batch_size=2, steps=20, transport="local") as stream:
            kept = [next(stream) for _ in range(4)]
            server.stop()
            again = Server(
                dataset,
                open_backend("cpu", threads=1),
                parse_config({"listen": {"address": address}, "local": {"folder": str(tmp_path / "run")}}),
            )
            again.start()
            try:
                got = [batch.image.tobytes() for batch in kept]
                del kept
                got += [batch.image.tobytes() for batch in stream]
                assert got == wanted
                assert stream.transport == "local"
            finally:
                again.stop()


def test_a_stride_comes_over_shared_memory_in_one_call(start: Callable[..., Server]) -> None:
    server = start()
    with augclient.connect(str(server.address)) as client:
        how: dict[str, Any] = {"patch": PATCH, "batch_size": 2, "start": 1, "steps": 9}
        every = {batch.step: batch.image.tobytes() for batch in client.stream(RECIPE, transport="grpc", **how)}
        with client.stream(RECIPE, transport="local", stride=4, **how) as stream:
            got = {batch.step: batch.image.tobytes() for batch in stream}
        assert got == {step: every[step] for step in (1, 5, 9)}
        assert stream.statistics().shared == 3


# ---------------------------------------------------------------- frameworks


def test_torch_tensors_lie_in_the_ring_and_hold_their_lease(start: Callable[..., Server]) -> None:
    torch = pytest.importorskip("torch")
    from augclient.torch import BatchDataset

    server = start()
    wanted = list(BatchDataset(str(server.address), RECIPE, patch=PATCH, batch_size=2, steps=6, transport="grpc"))
    batches = iter(BatchDataset(str(server.address), RECIPE, patch=PATCH, batch_size=2, steps=6, transport="local"))
    image, label = next(batches)
    assert in_ring(image.data_ptr())
    assert in_ring(label.data_ptr())
    part = image[1:, 0]
    before = part.clone()
    del image, label
    for step, (image, label) in enumerate(batches, 1):
        assert torch.equal(image, wanted[step][0])  # although the one before was overwritten, by us alone:
        assert torch.equal(label, wanted[step][1])
        image.mul_(0).add_(step)
    assert torch.equal(part, before)  # its slot was not used again
    assert server.slots.statistics().leased >= 1
    del part, image, label
    batches.close()
    wait_until(lambda: server.slots.statistics().reserved_bytes == 0)


@pytest.mark.slow
def test_tensorflow_tensors_lie_in_the_ring_and_are_never_written_to(start: Callable[..., Server]) -> None:
    tf = pytest.importorskip("tensorflow")
    import augclient.tensorflow

    server = start()
    how: dict[str, Any] = {"patch": PATCH, "batch_size": 2, "steps": 12}
    wanted = [image.numpy() for image, _ in augclient.tensorflow.dataset(str(server.address), RECIPE, transport="grpc", **how)]
    data = augclient.tensorflow.dataset(str(server.address), RECIPE, transport="local", **how)
    kept = []
    for step, (image, label) in enumerate(data):
        assert in_ring(np.asarray(memoryview(image)).ctypes.data)
        assert in_ring(np.asarray(memoryview(label)).ctypes.data)
        np.testing.assert_array_equal(image.numpy(), wanted[step])
        kept = [*kept[-1:], (step, image)]
        for past, tensor in kept:
            np.testing.assert_array_equal(tensor.numpy(), wanted[past])
    # operations that like to write into their input do not: the memory is read-only, and that would be the end of this process
    scaled = data.map(lambda image, _: tf.exp(tf.nn.relu(-(image * 0.0))) + 1.0)
    assert all(float(tf.reduce_max(image)) == 2.0 for image in scaled)
