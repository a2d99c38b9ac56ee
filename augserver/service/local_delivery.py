"""Batches to clients on this host: the call goes over gRPC as always, the arrays stay where the kernel wrote them.

    StreamBatches(local.token) -> peer of that token -> ring of the stream handed to it -> BatchPart(header, SlotRef) ...
    each SlotRef is a lease: the slot is free again when the client returns it, or is gone

A client that keeps its leases runs out of slots and waits for itself, as its ring is its own. The client's death (its socket closes)
ends the stream and its leases, and only then is the ring's memory off the budget: until then the client maps it.
"""

from __future__ import annotations

import logging
import mmap
import os
import socket
from pathlib import Path

from augclient.contract import MAX_LEASES
from augclient.wire.v1 import augserver_pb2 as pb

from augserver.config import LocalConfig
from augserver.errors import AuthError, BudgetError, RequestError, StateError
from augserver.pipeline.scheduler import Batch, BatchStream
from augserver.pipeline.sealed_memory import SealedMemory
from augserver.transport import LocalListener, LocalPeer, LocalStatistics, default_folder

_log = logging.getLogger(__name__)

_PEERS_PER_STREAM = 4  # streams that have ended stay connected while the client holds batches of theirs


class LocalDelivery:
    """Hands rings to clients that ask for them.

    Args:
        listener: None where there is no local socket.
        reason: why there is none, for clients.
    """

    def __init__(self, listener: LocalListener | None, reason: str = "") -> None:
        self._listener = listener
        self.reason = reason

    @property
    def path(self) -> str:
        """Of the socket; empty where there is none."""
        return "" if self._listener is None else str(self._listener.path)

    def statistics(self) -> LocalStatistics | None:
        """Of the socket's clients; None where there is no socket."""
        return None if self._listener is None else self._listener.statistics()

    def find_peer(self, request: pb.StreamBatchesRequest) -> LocalPeer | None:
        """The connection that a checked request names; None where its arrays are to travel in the messages.

        Raises:
            RequestError: it names one beside fields that do not go with it, or more leases than may be.
            AuthError: there is no connection of this token.
        """
        if not request.HasField("local"):
            return None
        if request.delivery != pb.PARTS or request.part_bytes:
            raise RequestError("local goes with neither part_bytes nor delivery SAMPLES: a batch in shared memory is whole")
        if not 1 <= request.local.leases <= MAX_LEASES:
            raise RequestError(f"local.leases must be 1 to {MAX_LEASES}, got {request.local.leases}")
        peer = None if self._listener is None else self._listener.find(request.local.token)
        if peer is None:
            raise AuthError(
                "local.token is of no connection to this server's local socket: it has closed, or belongs to another server, or to this "
                "one before a restart; connect to Dataset.local_socket again, or leave `local` out"
            )
        return peer

    def hand_over(self, peer: LocalPeer, stream: BatchStream) -> None:
        """Give a client the memory of its stream, which ends with the client.

        Raises:
            StateError: the connection has a stream already. UnavailableError: the client is gone.
            BudgetError: the system does not let it be handed over.
        """
        ring = stream.ring
        if ring.memory is None:
            raise StateError("the stream's memory is not shared")
        ring.hold()

        def end() -> None:
            stream.close()
            ring.let_go()

        try:
            peer.attach(ring.memory.descriptor, ring.memory.size_bytes, end)
        except StateError:
            ring.let_go()
            raise

    def refer(self, peer: LocalPeer, batch: Batch, header: pb.BatchHeader) -> bytes:
        """The message that says where a batch lies; the batch belongs to the client from now on.

        Raises:
            UnavailableError: the client is gone.
        """
        image_offset, label_offset = batch.offsets
        lease = peer.lease(batch.release)
        slot = pb.SlotRef(lease=lease, image_offset=image_offset, label_offset=label_offset)
        message: bytes = pb.BatchPart(step=batch.step, header=header, last=True, slot=slot).SerializeToString()
        return message

    def close(self) -> None:
        """Close the socket and every connection; the clients' arrays stay valid."""
        if self._listener is not None:
            self._listener.close()


def open_local_delivery(config: LocalConfig, max_streams: int) -> LocalDelivery:
    """A local socket as the settings say, or none.

    Raises:
        ConfigError, StateError: there can be none, and local.mode is "on".
    """
    if config.mode == "off":
        return LocalDelivery(None, "the server's settings say local.mode = 'off'")
    try:
        check_sharing()
        listener = LocalListener(
            Path(config.folder) if config.folder else default_folder(),
            permissions=int(config.permissions, 8),
            users={os.geteuid(), *config.user_ids},
            max_peers=_PEERS_PER_STREAM * max_streams,
        )
    except (BudgetError, StateError, OSError) as error:
        if config.mode == "on":
            raise error if isinstance(error, StateError) else StateError(f"local.mode = 'on', but {error}") from error
        _log.warning("clients on this host get their batches over gRPC: %s", error)
        return LocalDelivery(None, str(error))
    _log.info("clients on this host share memory through %s", listener.path)
    return LocalDelivery(listener)


def check_sharing() -> None:
    """Make sealed memory and hand it over, from this process to itself: a sandbox may refuse any of the calls that this takes.

    Raises:
        BudgetError, StateError, OSError: it does; the message names the call.
    """
    if not hasattr(os, "memfd_create"):
        raise StateError("shared memory with clients needs Linux; set local.mode = 'off'")
    memory = SealedMemory(mmap.PAGESIZE)
    try:
        sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with sender, receiver:
            socket.send_fds(sender, [b"x"], [memory.descriptor])
            _, received, _, _ = socket.recv_fds(receiver, 1, 1)
        if not received:
            raise StateError("the system does not let a descriptor be handed over (SCM_RIGHTS); set local.mode = 'off'")
        os.close(received[0])
    except OSError as error:
        raise StateError(f"the system does not let memory be handed over ({error.strerror}); set local.mode = 'off'") from error
    finally:
        memory.close()
