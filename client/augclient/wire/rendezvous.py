"""Which server a volume's samples go to: rendezvous hashing, the same function in client and server.

    owner(volume) = the member with the largest weight(member, volume)

Each member gets about an equal part of the volumes, so the caches of a fleet become disjoint by themselves. A member that leaves moves
its own volumes only, each to the member next in its order; when it is back they move back. The function is part of the contract
(message Share in augserver.proto), so nothing of Python's own hashing is in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b


def weight(member: str, volume: str) -> int:
    """How strongly `member` claims `volume`, in [0, 2**64): BLAKE2b-64 of "member\\0volume", big-endian."""
    return int.from_bytes(blake2b(f"{member}\0{volume}".encode(), digest_size=8).digest(), "big")


def order(members: Iterable[str], volume: str) -> list[str]:
    """`members` by falling weight for `volume`: the first owns it, the next ones stand in. Of equal weights the smaller name first."""
    return sorted(members, key=lambda member: (-weight(member, volume), member))


class Router:
    """Says whether a volume falls to one member of a fleet. Thread-safe: what it caches is the same whoever computes it.

    Args:
        members: all servers at work, distinct.
        member: the one of them that this router speaks for.
        instead_of: of the volumes that fall to one of these, the router takes those that would fall to `member` without these.
    """

    def __init__(self, members: Sequence[str], member: str, instead_of: Sequence[str] = ()) -> None:
        self._members = tuple(members)
        self._member = member
        self._instead_of = frozenset(instead_of)
        self._mine: dict[str, bool] = {}  # one entry per volume of the dataset at most

    def takes(self, volume: str) -> bool:
        """Whether the samples of `volume` are this member's."""
        known = self._mine.get(volume)
        if known is None:
            known = self._mine[volume] = self._decide(volume)
        return known

    def _decide(self, volume: str) -> bool:
        ranked = order(self._members, volume)
        if not self._instead_of:
            return ranked[0] == self._member
        return ranked[0] in self._instead_of and self._member == next(each for each in ranked if each not in self._instead_of)
