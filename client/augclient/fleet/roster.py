"""Who of a fleet is at work: members that were lost are asked again and again, and return; DNS is asked again for those that are new.

    up  --lost(reason)-->  down  --waits, then GetDataset with the same fingerprint-->  up
                             ^--another fingerprint, or no answer: waits again--'

One roster belongs to one stream. Its threads know nothing of the stream: a forgotten one can be collected and ends them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import grpc

from augclient.errors import AugError, StateError, UnavailableError
from augclient.fleet.connections import Connections
from augclient.fleet.seeds import Seeds, peer_addresses
from augclient.stream.outage import FIRST_DELAY_S, MAX_DELAY_S
from augclient.wire.status import error_from_rpc

_PROBE_S = 2.0  # how long a member that was lost may take to answer; a paused one never does
_MAX_PENALTY_S = 60.0  # between attempts with a member that answers, joins, and fails before its first batch every time
_RESOLVE_S = 5.0  # Kubernetes publishes a new pod within about this time

_log = logging.getLogger("augclient.fleet")


@dataclass(slots=True, eq=False)
class _Member:
    up: bool
    failures: int = 0  # since it last sent its share of a batch
    delay_s: float = FIRST_DELAY_S
    probe_at: float = 0.0
    reason: AugError | None = None


class Roster:
    """The members of a fleet; all methods but close() with the lock of `changed` held, which is notified when who is up changes.

    Args:
        up, down: the members at the start.
        fingerprint: of the dataset that all must hold.
        changed: the stream's condition.
    """

    def __init__(
        self,
        seeds: Seeds,
        connections: Connections,
        *,
        up: Iterable[str],
        down: Iterable[str],
        fingerprint: str,
        changed: threading.Condition,
    ) -> None:
        self._seeds = seeds
        self._connections = connections
        self._fingerprint = fingerprint
        self._changed = changed
        self._members = {address: _Member(True) for address in up} | {address: _Member(False) for address in down}
        self._resolved = frozenset(self._members)
        self._probes: list[Any] = []
        self._closed = False
        self.thread = threading.Thread(target=self._watch, name="augclient-watch", daemon=True)
        self.thread.start()
        if seeds.dynamic:
            threading.Thread(target=self._resolve, name="augclient-dns", daemon=True).start()  # nobody waits for it: DNS may hang

    def live(self) -> tuple[str, ...]:
        """Members that are up, sorted."""
        return tuple(sorted(address for address, member in self._members.items() if member.up))

    def known(self) -> tuple[str, ...]:
        """All members, up and down."""
        return tuple(self._members)

    def lost(self, address: str, reason: AugError, *, after_progress: bool) -> None:
        """Take a member out until it answers again; the sooner, the more recently it was of use."""
        member = self._members.get(address)
        if member is None:
            return  # DNS no longer names it
        member.failures = 1 if after_progress else member.failures + 1
        member.up, member.reason, member.delay_s = False, reason, FIRST_DELAY_S
        member.probe_at = time.monotonic() + min(FIRST_DELAY_S * 2.0 ** (member.failures - 1), _MAX_PENALTY_S)
        _log.info("%s is out: %s", address, reason)
        self._changed.notify_all()

    def reasons(self) -> str:
        """Why each member that is down is so."""
        return "; ".join(f"{address}: {member.reason}" for address, member in sorted(self._members.items()) if not member.up)

    def all_strangers(self) -> bool:
        """Whether every member is out because it holds, or came back with, another dataset."""
        return all(isinstance(member.reason, StateError) and not member.up for member in self._members.values())

    def close(self) -> None:
        """Let the threads end; `thread` has then soon. Any thread, any number of times."""
        with self._changed:
            self._closed = True
            probes, self._probes = self._probes, []
            self._changed.notify_all()
        for probe in probes:
            probe.cancel()

    def _watch(self) -> None:
        while due := self._wait_due():
            with self._changed:
                if self._closed:
                    return
                try:
                    asked = {address: self._connections.ask_dataset(address, _PROBE_S) for address in due}
                except (AugError, ValueError):
                    return  # the connection was closed: so will be the stream
                self._probes = list(asked.values())
            for address, probe in asked.items():
                self._heed(address, probe)

    def _wait_due(self) -> list[str]:
        """Wait until members should be asked whether they are back; none: closed."""
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                down = {address: member.probe_at for address, member in self._members.items() if not member.up}
                due = [address for address, at in down.items() if at <= now]
                if due:
                    return due
                self._changed.wait(min(down.values()) - now if down else None)
            return []

    def _heed(self, address: str, probe: Any) -> None:
        """Take the answer of a member that was asked."""
        peers: list[str] = []
        reason: AugError | None = None
        try:
            message = probe.result()
            peers = peer_addresses(address, message.peers)
            if message.fingerprint != self._fingerprint:
                reason = StateError(
                    f"it holds dataset {message.fingerprint!r}, the stream is on {self._fingerprint!r}; start it with the same dataset"
                )
        except grpc.RpcError as error:
            reason = error_from_rpc(error, address)
        except grpc.FutureCancelledError:
            return  # closed
        with self._changed:
            member = self._members.get(address)
            if member is None:
                return
            if reason is None:
                member.up, member.reason = True, None
                for peer in peers:
                    self._members.setdefault(peer, _Member(False))
                _log.info("%s is in", address)
            else:
                if isinstance(reason, StateError) and not isinstance(member.reason, StateError):
                    _log.warning("%s stays out: %s", address, reason)
                member.reason = reason
                member.probe_at = time.monotonic() + member.delay_s
                member.delay_s = min(2 * member.delay_s, MAX_DELAY_S)
            self._changed.notify_all()

    def _resolve(self) -> None:
        while True:
            with self._changed:
                if self._changed.wait_for(lambda: self._closed, _RESOLVE_S):
                    return
            try:
                found = frozenset(self._seeds.resolve())
            except UnavailableError as error:
                _log.info("%s", error)  # the members known stay: it may be DNS that is away
                continue
            with self._changed:
                for address in self._resolved - found:
                    self._members.pop(address, None)
                for address in found - self._members.keys():
                    self._members[address] = _Member(False)
                self._resolved = found
                self._connections.keep(self._members)
                self._changed.notify_all()
