"""The client's end: one connection to the server's Unix socket, the memory behind it, and the leases on its slots.

    open_link(path) --HELLO--> token --gRPC call that names it--> RING + memfd --map--> view(lease, ...) -> array -> ... -> RELEASE

An array on a slot keeps its lease, a lease keeps the link, the link keeps mapping and socket. So whatever of a batch is dropped last
returns its slot, and the last array of all unmaps the memory and closes the socket, whether the stream or the server still lives or not.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import queue
import socket
import sys
import time
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augclient.errors import DeadlineError, StateError, UnavailableError, WireError
from augclient.local.private_copies import PrivateCopies
from augclient.local.protocol import ALIGNMENT, MAX_PACKET, SEALS, decode_hello, decode_ring, encode_release

_MAX_PATH = 107  # bytes of sun_path, without its final zero

_open_links: weakref.WeakSet[RingLink] = weakref.WeakSet()


def open_link(path: str, *, writable: bool = False, timeout_s: float = 5.0) -> RingLink:
    """Connect to a server's local socket.

    Args:
        path: Dataset.local_socket.
        writable: map the memory copy-on-write, so that arrays may be written to; see RingLink.
        timeout_s: for the server's side of the handshake, here and in map_ring().
    Raises:
        StateError: there is no such socket here, or it may not be used; the message is the reason to give.
        UnavailableError: nobody listens there (any more). DeadlineError: no answer in time.
        WireError: what answers is no augserver, or one of another release.
    """
    if not hasattr(os, "memfd_create"):
        raise StateError("shared memory needs Linux")
    if len(os.fsencode(path)) > _MAX_PATH:
        raise StateError(f"the path {path} is longer than the {_MAX_PATH} bytes of a Unix socket's")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.settimeout(timeout_s)
        connection.connect(path)
        packet = connection.recv(MAX_PACKET)
        if not packet:
            raise StateError(f"the server closed {path} at once: it takes no more clients, or not this user")
        token = decode_hello(packet)
    except BaseException as error:
        connection.close()
        if isinstance(error, TimeoutError):
            raise DeadlineError(f"the server does not answer on {path} within {timeout_s:g} s") from None
        if isinstance(error, FileNotFoundError):
            raise StateError(
                f"there is no socket {path} here: the server runs on another host, or its folder is not shared with us under the same path"
            ) from None
        if isinstance(error, ConnectionError):
            raise UnavailableError(f"nobody listens on {path}") from None
        if isinstance(error, OSError):
            raise StateError(f"the socket {path} cannot be used: {error.strerror or error}") from None
        raise
    return RingLink(connection, token, writable=writable, timeout_s=timeout_s)


class RingLink:
    """One connection and its memory; open_link() makes one. Views and their ends may be on any thread.

    Two ways to map, at the same price until someone writes:
        read-only     writing raises, or ends the process where a framework does not ask numpy first
        writable      a write makes a private copy of its page (4 KiB), which the server never sees; such copies are dropped with the
                      lease, as they would hide the next batch in that slot

    Attributes:
        token: names this connection in a gRPC call.
    """

    def __init__(self, connection: socket.socket, token: bytes, *, writable: bool, timeout_s: float) -> None:
        self.token = token
        self._socket = connection
        self._writable = writable
        self._timeout_s = timeout_s
        self._pages: mmap.mmap | None = None
        self._copies: PrivateCopies | None = None
        self._held: set[int] = set()
        self._stopped = False
        # Without a lock: leases end in garbage collections and under interrupts, anywhere.
        self._returned: queue.SimpleQueue[None] = queue.SimpleQueue()
        weakref.finalize(self, connection.close)  # not __del__: in a garbage cycle the socket's own could come first, and warn
        _open_links.add(self)

    def map_ring(self) -> None:
        """Wait for the memory and map it, the first time; further calls do nothing.

        Raises:
            UnavailableError: the server closed the socket. DeadlineError: no memory came in time.
            WireError: what came is not sealed memory of the size that it says.
        """
        if self._pages is not None:
            return
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._socket, MAX_PACKET, 2)
        except TimeoutError:
            raise DeadlineError(f"the server handed over no memory within {self._timeout_s:g} s") from None
        except OSError as error:
            raise UnavailableError(f"the local socket broke: {error.strerror}") from None
        try:
            if not packet:
                raise UnavailableError("the server closed the local socket")
            size_bytes = decode_ring(packet)
            if len(descriptors) != 1:
                raise WireError(f"{len(descriptors)} file descriptors came with the memory; due is 1")
            self._pages = _map(descriptors[0], size_bytes, writable=self._writable)
            self._copies = PrivateCopies(self._pages) if self._writable else None
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        self._socket.setblocking(False)  # from here on it only says that leases ended, from wherever garbage is collected

    @property
    def held(self) -> int:
        """Leases that have not ended."""
        return len(self._held)

    def wait_below(self, leases: int, timeout_s: float) -> bool:
        """Wait until fewer than `leases` are held, or until stop_waiting(); False if that took longer than `timeout_s`."""
        until = time.monotonic() + timeout_s
        while len(self._held) >= leases and not self._stopped:
            left_s = until - time.monotonic()
            if left_s <= 0:
                return False
            with contextlib.suppress(queue.Empty):
                self._returned.get(timeout=left_s)
        return True

    def stop_waiting(self) -> None:
        """End wait_below() now and from now on."""
        self._stopped = True
        self._returned.put(None)

    def view(self, lease: int, stretches: tuple[tuple[int, int], ...]) -> list[NDArray[np.uint8]]:
        """Arrays on one slot.

        Args:
            lease: its number; returned when the last of the arrays, and of whatever looks at them, is gone.
            stretches: (offset, size) in bytes of each.
        Returns:
            A flat uint8 array for each stretch.
        Raises:
            WireError: a stretch that is not within the memory, or not aligned; the lease is held already.
        """
        pages = self._pages
        if pages is None:
            raise StateError("the memory is not mapped; call map_ring() first")
        for offset, size in stretches:
            if offset % ALIGNMENT or not 0 <= offset <= offset + size <= len(pages):
                raise WireError(
                    f"a slot claims bytes [{offset}, {offset + size}) of a ring of {len(pages)};"
                    f" allowed: inside, from a multiple of {ALIGNMENT}"
                )
        if lease in self._held:
            raise WireError(f"lease {lease} was given twice")
        self._held.add(lease)
        first = min(offset for offset, _ in stretches)
        slot = _Slot(self, pages, lease, first, max(offset + size for offset, size in stretches) - first)
        whole = np.asarray(slot)
        return [whole[offset - first : offset - first + size] for offset, size in stretches]

    def is_closed(self) -> bool:
        """Whether the server's end is gone."""
        self._socket.setblocking(False)
        try:
            return not self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close_socket(self) -> None:
        """Close the connection, which ends all leases for the server; arrays stay valid until they are dropped."""
        self._socket.close()

    def _end_lease(self, lease: int, offset: int, size: int, releases: Iterator[int]) -> None:
        """Runs inside garbage collection, on any thread: takes no lock, and never waits for the server. Again after an interrupt."""
        if self._copies is not None:
            self._copies.drop(offset, size)
        # At most 64 leases exist, so at most as many packets wait: they fit the socket's buffer. EPIPE: the server is gone.
        with contextlib.suppress(OSError):
            next(releases, None)
        self._held.discard(lease)
        if self._returned.empty():
            self._returned.put(None)

    def _releases(self, lease: int) -> Iterator[int]:
        """Sends the RELEASE when it is asked for its next item, and never again: in one call into C, which no interrupt cuts in two."""
        return map(self._socket.send, [encode_release(lease)])


class _Slot:
    """Owner of a slot as numpy sees it: the base of the arrays on it, and of every view of them."""

    __slots__ = ("__array_interface__", "_extent", "_lease", "_link", "_process", "_releases")

    def __init__(self, link: RingLink, pages: mmap.mmap, lease: int, offset: int, size: int) -> None:
        raw = np.frombuffer(pages, np.uint8, size, offset)
        self.__array_interface__: dict[str, Any] = raw.__array_interface__
        page_start = offset // mmap.PAGESIZE * mmap.PAGESIZE  # slots begin at pages, so no neighbour is touched
        self._extent = page_start, offset + size - page_start
        self._lease = lease
        self._link = link
        self._releases = link._releases(lease)
        self._process = os.getpid()

    def __del__(self) -> None:
        # A forked child has a copy of this object: dropping it there must not end the parent's lease. At the interpreter's end the
        # socket's own end says it all.
        if not sys.is_finalizing() and os.getpid() == self._process:
            try:
                self._link._end_lease(self._lease, *self._extent, self._releases)
            except KeyboardInterrupt:
                self._link._end_lease(self._lease, *self._extent, self._releases)
                raise


def _map(descriptor: int, size_bytes: int, *, writable: bool) -> mmap.mmap:
    import fcntl  # not on every system that can import this module

    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError:
        raise WireError("the server handed over something that is no memfd") from None
    if seals & SEALS != SEALS or os.fstat(descriptor).st_size != size_bytes or not size_bytes:
        # memory that could shrink would kill its reader (SIGBUS)
        raise WireError(
            f"the server's memory has seals {seals:#x} and {os.fstat(descriptor).st_size} bytes; due are {SEALS:#x} and {size_bytes}"
        )
    if writable:
        return mmap.mmap(descriptor, size_bytes, access=mmap.ACCESS_COPY)
    return mmap.mmap(descriptor, size_bytes, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)


def _close_in_child() -> None:
    # A child that lives on must not hold its parent's leases after the parent has died.
    for link in list(_open_links):
        link.close_socket()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
