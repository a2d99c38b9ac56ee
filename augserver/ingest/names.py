"""Volume ids from file names: the same files give the same ids, in whatever order they are found."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

_MAX_LENGTH = 100
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def volume_ids(names: Sequence[Sequence[str]]) -> list[str]:
    """One id per source, all different even where case does not count.

    The id is the stem, with runs of characters other than A-Z a-z 0-9 . _ - replaced by one underscore. Sources whose ids clash are
    told apart by their folders, nearest first (`s0001_ct`, `s0002_ct`), and if those are the same too, by a number in sorted order.

    Args:
        names: per source the folders from the top down, then the stem.
    """
    depth = [1] * len(names)
    while True:
        ids = [_safe("_".join(parts[-count:])) for parts, count in zip(names, depth, strict=True)]
        clashes = _clashes(ids)
        # Folders tell nothing apart where they are the same: scan.nii beside scan.mha.
        groups = [group for group in clashes if len({tuple(names[index]) for index in group}) > 1]
        deeper = [index for group in groups for index in group if depth[index] < len(names[index])]
        if not deeper:
            break
        for index in deeper:
            depth[index] += 1
    taken = {volume_id.casefold() for volume_id in ids}
    for group in clashes:
        count = 1
        for index in sorted(group, key=lambda index: tuple(names[index]))[1:]:
            while f"{ids[index]}-{(count := count + 1)}".casefold() in taken:
                pass
            ids[index] = f"{ids[index]}-{count}"
            taken.add(ids[index].casefold())
    return ids


def _clashes(ids: Sequence[str]) -> list[list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for index, volume_id in enumerate(ids):
        groups[volume_id.casefold()].append(index)
    return [group for group in groups.values() if len(group) > 1]


def _safe(name: str) -> str:
    # The end tells siblings apart more often than the beginning, so a long name loses its beginning.
    return _UNSAFE.sub("_", name)[-_MAX_LENGTH:].lstrip("._-").rstrip(".") or "volume"
