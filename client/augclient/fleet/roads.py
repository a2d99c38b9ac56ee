"""The roads of a fleet's lanes: each server's own, and what they come to for the stream.

Shares are copied into the batch that they are part of, from shared memory or from messages: a lane's leases end at once, and a
trainer never holds any.
"""

from __future__ import annotations

from collections.abc import Iterable

from augclient.stream.road import Road, RoadStatistics

_PREFETCH = 1  # of shares: one is copied while the next comes; a trainer holds none


class FleetRoad:
    """Gives every lane its road; read by anyone.

    Args:
        transport: "auto" or "grpc".
        timeout_s: for servers' answers on the way to shared memory.
    """

    def __init__(self, transport: str, *, timeout_s: float) -> None:
        self._transport = transport
        self._timeout_s = timeout_s
        self._lanes: dict[tuple[str, bool], Road] = {}

    @property
    def taken(self) -> str | None:
        """ "local" where all servers share memory now, "grpc" where one does not; None before the first call."""
        roads = {road.taken for road in list(self._lanes.values())} - {None}
        return "grpc" if "grpc" in roads else "local" if roads else None

    @property
    def reason(self) -> str:
        """Why, server by server."""
        roads = {member: road.reason for (member, stands_in), road in list(self._lanes.items()) if not stands_in}
        return "; ".join(f"{member}: {roads[member]}" for member in sorted(roads))

    def lane(self, member: str, *, stands_in: bool) -> Road:
        """The road of a lane; the next one of that member in that role goes on with it, when the one before has ended."""
        if (member, stands_in) not in self._lanes:
            self._lanes[member, stands_in] = Road(self._transport, prefetch=_PREFETCH, timeout_s=self._timeout_s)
        return self._lanes[member, stands_in]

    def keep(self, members: Iterable[str]) -> None:
        """Forget those of all other members; none of their lanes runs."""
        kept = set(members)
        for gone in [key for key in self._lanes if key[0] not in kept]:
            self._lanes.pop(gone).close()

    def statistics(self) -> RoadStatistics:
        """No batch lies in shared memory: those of a fleet are put together in memory of the stream's own."""
        return RoadStatistics(0, 0, 0)

    def close(self) -> None:
        """Let go of all connections."""
        for road in list(self._lanes.values()):
            road.close()
