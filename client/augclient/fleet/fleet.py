"""The servers that a connection knows: found, compared, asked one after the other, and streamed from together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import grpc

from augclient.errors import AugError, DeadlineError, StateError, UnavailableError
from augclient.fleet.connections import Connections
from augclient.fleet.merge import BatchMerge
from augclient.fleet.receiver import FleetReceiver
from augclient.fleet.roads import FleetRoad
from augclient.fleet.roster import Roster
from augclient.fleet.seeds import Seeds, peer_addresses
from augclient.stream.buffers import BufferPool
from augclient.stream.road import Road
from augclient.stream.spec import StreamSpec
from augclient.tls_files import TlsConfig
from augclient.wire.methods import ServiceCalls
from augclient.wire.rendezvous import order
from augclient.wire.status import error_from_rpc
from augclient.wire.v1 import augserver_pb2 as pb

T = TypeVar("T")

_STRAGGLER_S = 5.0  # how long the others may take to answer once one has; who takes longer may join later


class Fleet:
    """One server or many that hold the same dataset; thread-safe.

    Args:
        address, token, tls, receiver: as for connect().
        timeout_s: for calls with one answer.
    """

    def __init__(
        self, address: str | Sequence[str], *, token: str | None, tls: TlsConfig | bool | None, timeout_s: float, receiver: str
    ) -> None:
        self._seeds = Seeds(address)
        self._connections = Connections(self._seeds, token=token, tls=tls, receiver=receiver)
        self._timeout_s = timeout_s
        self._up: tuple[str, ...] = ()
        self._down: tuple[str, ...] = ()

    @property
    def given(self) -> tuple[str, ...]:
        """The addresses that the user gave."""
        return self._seeds.given

    @property
    def metadata(self) -> Any:
        """What goes with every call."""
        return self._connections.metadata

    @property
    def only(self) -> str | None:
        """The address, where there is one server and there will be no other."""
        return self._up[0] if len(self._up) == 1 and not self._down and not self._seeds.dynamic else None

    @property
    def first(self) -> str:
        """The address of a server that answered; asks around where none has yet. Errors as for greet()."""
        if not self._up:
            self.greet()
        return self._up[0]

    def calls(self, address: str) -> ServiceCalls:
        """The methods of one server."""
        return self._connections.calls(address)

    def greet(self) -> pb.Dataset:
        """Ask all servers, and those that they name, what they hold; remember who answered.

        Returns:
            The dataset of all, with the volumes that any of them has set aside.
        Raises:
            StateError: two servers hold different datasets. UnavailableError, DeadlineError or AuthError: nobody answers; the first's own.
        """
        answers: dict[str, pb.Dataset] = {}
        failures: dict[str, AugError] = {}
        known = {*self._up, *self._down}
        try:
            unasked = {*self._seeds.resolve(self._timeout_s), *(() if self._seeds.dynamic else known)}
        except UnavailableError:
            if not known:
                raise
            unasked = known  # DNS is away, they need not be
        while unasked:
            probes = {address: self._connections.ask_dataset(address, self._timeout_s) for address in sorted(unasked)}
            self._collect(probes, answers, failures)
            named = {peer for address, message in answers.items() for peer in peer_addresses(address, message.peers)}
            unasked = named - answers.keys() - failures.keys()
        if not answers:
            raise next(iter(failures.values()))
        first, message = next(iter(answers.items()))
        for address, other in answers.items():
            if other.fingerprint != message.fingerprint:
                raise StateError(
                    f"{first} holds dataset {message.fingerprint!r} and {address} holds {other.fingerprint!r}; servers of one connection"
                    " must hold the same: serve copies of one dataset, or connect to them apart"
                )
        self._up, self._down = tuple(sorted(answers)), tuple(sorted(failures))
        self._connections.keep(self._up + self._down)
        lost = {each.id: each.reason for answer in answers.values() for each in answer.quarantined}
        message.ClearField("quarantined")
        message.quarantined.extend(pb.Quarantined(id=id, reason=lost[id]) for id in sorted(lost))
        return message

    def ask(self, call: Callable[[ServiceCalls], T], *, volume: str = "") -> T:
        """The answer of the first server that is there, in the order of rendezvous hashing for `volume`.

        Raises:
            AugError: what a server answered; UnavailableError or DeadlineError: all are gone, the last one's own.
        """
        if not self._up:
            self.greet()
        members = order(self._up, volume) + list(self._down)
        while True:
            address = members.pop(0)
            try:
                return call(self._connections.calls(address))
            except grpc.RpcError as error:
                reason = error_from_rpc(error, address)
                if not (members and isinstance(reason, UnavailableError | DeadlineError)):
                    raise reason from error

    def receive(
        self,
        spec: StreamSpec,
        first: int,
        pool: BufferPool,
        roads: FleetRoad,
        *,
        prefetch: int,
        reconnect_s: float,
        step_timeout_s: float,
        hedge_s: float | None,
    ) -> FleetReceiver:
        """Begin to receive the batches of `spec` from `first` on, from all servers; arguments as for Server.stream()."""
        seeds, connections, up, down = self._seeds, self._connections, self._up, self._down
        metadata = connections.metadata  # of this thread, which is the trainer's

        def make_roster(changed: threading.Condition) -> Roster:
            return Roster(seeds, connections, up=up, down=down, fingerprint=spec.fingerprint, changed=changed)

        def open_call(address: str, step: int, share: pb.Share, road: Road) -> Any:
            request = spec.request(step, alone=road.ignores_stride)
            request.share.CopyFrom(share)
            return road.open(connections.calls(address), metadata, request)

        return FleetReceiver(
            BatchMerge(spec, pool, first=first, prefetch=prefetch),
            make_roster,
            open_call,
            roads,
            reconnect_s=reconnect_s,
            step_timeout_s=step_timeout_s,
            hedge_s=hedge_s,
        )

    def close(self) -> None:
        """Close all connections; twice is fine."""
        self._connections.close()

    def _collect(self, probes: dict[str, Any], answers: dict[str, pb.Dataset], failures: dict[str, AugError]) -> None:
        """Wait for answers: for the first as long as it takes, for the others a little longer."""
        deadline: float | None = None
        if answers:
            deadline = time.monotonic() + _STRAGGLER_S
        for address, probe in probes.items():
            try:
                answers[address] = probe.result(None if deadline is None else max(deadline - time.monotonic(), 0.0))
                deadline = time.monotonic() + _STRAGGLER_S if deadline is None else deadline
            except grpc.FutureTimeoutError:
                probe.cancel()
                failures[address] = DeadlineError(f"{address}: no answer within {_STRAGGLER_S:g} s of the first server's")
            except grpc.RpcError as error:
                failures[address] = error_from_rpc(error, address)
