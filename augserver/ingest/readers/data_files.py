"""Which files hold the voxels of a text header (NRRD, MetaImage): one, a list or a pattern, in its folder or below."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from augserver.errors import VolumeError

_MAX_FILES = 100_000
_NUMBER = re.compile(r"%(0?\d*)[diu]")


def data_file(header: Path, name: str) -> Path:
    """The data file that a header names.

    A header from somebody else must not make voxels of any file of this machine, so the file must lie in the header's folder or below.

    Raises:
        VolumeError: it is missing, or elsewhere.
    """
    folder = os.path.abspath(header.parent)
    place = os.path.normpath(os.path.join(folder, name))
    if not name or os.path.commonpath([folder, place]) != folder:
        raise VolumeError(
            f"{header.name}: its voxels are in {name!r}, outside the header's folder; only files in that folder or below it are read: "
            "put the data file beside the header and name it there"
        )
    if not os.path.isfile(place):
        raise VolumeError(f"{header.name}: its data file {name!r} is missing; put it where the header says, or correct the header")
    return Path(place)


def listed_files(header: Path, names: Sequence[str]) -> list[Path]:
    """The files of a list, in its order.

    Raises:
        VolumeError: there is none, or one is missing or elsewhere.
    """
    if not names:
        raise VolumeError(f"{header.name}: its list of data files is empty; add their names, one a line")
    return [data_file(header, name) for name in names]


def is_pattern(name: str) -> bool:
    """Whether a data file's name is a pattern such as "slice%03d.raw 1 40 1"."""
    return _NUMBER.search(name) is not None and len(name.split()) > 1


def numbered_files(header: Path, text: str) -> list[Path]:
    """The files of a pattern with first, last and step, such as "slice%03d.raw 1 40 1".

    Raises:
        VolumeError: the text is no such pattern, or a file is missing or elsewhere.
    """
    pattern, *words = text.split()
    try:
        first, last, step = (int(word) for word in words)
        numbers = range(first, last + (1 if step > 0 else -1), step)
    except ValueError:
        numbers = range(0)
    if not 0 < len(numbers) <= _MAX_FILES or pattern.count("%") != 1 or not _NUMBER.search(pattern):
        raise VolumeError(
            f"{header.name}: its data files are {text!r}; a pattern has one %d, then first, last and step, such as 'slice%03d.raw 1 40 1'"
        )
    formatted = _NUMBER.sub(r"%\1d", pattern)
    return [data_file(header, formatted % number) for number in numbers]
