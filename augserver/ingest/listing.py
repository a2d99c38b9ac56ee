"""List the files under a path, once, and everything there that is no file to be read: nothing is left out without being counted.

No file is opened here, and nothing raises: a folder that cannot be entered, a link to nothing or a pipe is counted under its kind.
"""

from __future__ import annotations

import os
import stat
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

DATASET = "dataset (.zarr)"
LINKED_FOLDER = "link to a folder"
BROKEN_LINK = "broken link"
UNREADABLE_FOLDER = "unreadable folder"
UNREADABLE_FILE = "unreadable file"

_SPECIAL = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
NO_FILES = frozenset((DATASET, LINKED_FOLDER, BROKEN_LINK, UNREADABLE_FOLDER, UNREADABLE_FILE, *_SPECIAL.values(), "special file"))
"""Kinds of which each one counts as one file, though it is none that was looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """Something that may hold scans and could not be looked at.

    Attributes:
        path: where it is.
        kind: of the constants of this module.
        reason: the system's words.
    """

    path: Path
    kind: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The files below a folder.

    Attributes:
        root: the folder, or that of the one file that was named.
        files: regular files, sorted.
        skipped: number of other things by kind; each unread one is counted here too.
        unread: what could not be looked at.
        hidden: number of hidden files and folders, whose names begin with a dot; they are not looked into.
    """

    root: Path
    files: tuple[Path, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)
    unread: tuple[Unread, ...] = ()
    hidden: int = 0

    def by_folder(self) -> dict[Path, list[Path]]:
        """Folder -> the files that lie in it, for folders that hold any."""
        folders: dict[Path, list[Path]] = defaultdict(list)
        for file in self.files:
            folders[file.parent].append(file)
        return folders


def list_files(path: Path) -> Listing:
    """The files at a path and, in a folder, below it; links to folders (they may run in circles) are not followed."""
    whole = Path(os.path.abspath(path))  # without "..", so that places can be compared
    walk = _Walk()
    if os.path.isdir(whole):
        walk.enter(whole)
        root = whole
    else:
        walk.take(whole)
        root = whole.parent
    return Listing(root=root, files=tuple(sorted(walk.files)), skipped=dict(walk.skipped), unread=tuple(walk.unread), hidden=walk.hidden)


class _Walk:
    """What was found so far."""

    def __init__(self) -> None:
        self.files: list[Path] = []
        self.skipped: Counter[str] = Counter()
        self.unread: list[Unread] = []
        self.hidden = 0

    def enter(self, top: Path) -> None:
        """Walk a folder and those below it."""
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(folder) as entries:
                    names = sorted(entry.name for entry in entries)
                if names:
                    os.lstat(folder / names[0])  # a folder may show names and not let in
            except OSError as error:
                self._miss(folder, UNREADABLE_FOLDER, error)
                continue
            for name in names:
                if name.startswith("."):
                    self.hidden += 1
                elif self.take(folder / name):
                    waiting.append(folder / name)

    def take(self, path: Path) -> bool:
        """Note what lies at a path; whether it is a folder to be entered."""
        try:
            kind = stat.S_IFMT(path.lstat().st_mode)
        except OSError as error:
            self._miss(path, UNREADABLE_FILE, error)
            return False
        if kind == stat.S_IFLNK:
            return self._follow(path)
        if kind == stat.S_IFDIR:
            if path.name.endswith(".zarr"):
                self.skipped[DATASET] += 1
                return False
            return True
        if kind == stat.S_IFREG:
            self.files.append(path)
        else:
            self.skipped[_SPECIAL.get(kind, "special file")] += 1
        return False

    def _follow(self, link: Path) -> bool:
        try:
            kind = stat.S_IFMT(link.stat().st_mode)
        except PermissionError as error:
            self._miss(link, UNREADABLE_FILE, error)
        except OSError as error:
            self._miss(link, BROKEN_LINK, error)
        else:
            if kind == stat.S_IFREG:
                self.files.append(link)
            else:
                self.skipped[LINKED_FOLDER if kind == stat.S_IFDIR else _SPECIAL.get(kind, "special file")] += 1
        return False

    def _miss(self, path: Path, kind: str, error: OSError) -> None:
        self.skipped[kind] += 1
        self.unread.append(Unread(path=path, kind=kind, reason=error.strerror or type(error).__name__))
