"""The text before the voxels of an NRRD file: its fields, key/value pairs and data files, by teem's definition of the format."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from augserver.errors import VolumeError

_MAX_HEADER_BYTES = 1 << 20
_MAGIC = re.compile(rb"NRRD(000[1-5]|00\.01)\s*$")
_FIELDS = frozenset(
    [
        *(
            "number",
            "type",
            "blocksize",
            "dimension",
            "space",
            "spacedimension",
            "sizes",
            "spacings",
            "thicknesses",
            "axismins",
            "axismaxs",
        ),
        *("spacedirections", "centerings", "kinds", "labels", "units", "min", "max", "oldmin", "oldmax", "endian", "encoding", "lineskip"),
        *("byteskip", "content", "sampleunits", "spaceunits", "spaceorigin", "measurementframe", "datafile"),
    ]
)
_ALIASES = {"centers": "centerings"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NrrdHeader:
    """What the header says, not interpreted.

    Attributes:
        fields: by name in lower case and without blanks ("spacedirections"): both forms are in use.
        key_values: what "key:=value" lines add, such as Slicer's segments.
        listed: names of the data files, where "data file" is LIST.
        unknown: fields that the format does not have.
        bytes: its length, where an attached header's voxels begin.
    """

    fields: dict[str, str]
    key_values: dict[str, str]
    listed: tuple[str, ...]
    unknown: tuple[str, ...]
    bytes: int


def read_nrrd_header(path: Path) -> NrrdHeader:
    """Read up to the blank line (or the end of a detached header).

    Raises:
        VolumeError: not NRRD, or a line that has no meaning.
        OSError: the file cannot be read.
    """
    fields: dict[str, str] = {}
    key_values: dict[str, str] = {}
    listed: list[str] = []
    unknown: list[str] = []
    with path.open("rb") as file:
        if not _MAGIC.match(file.readline(16)):
            raise VolumeError(f"{path.name}: is no NRRD: its first line is not 'NRRD0001' to 'NRRD0005'")
        while file.tell() < _MAX_HEADER_BYTES and (line := file.readline(_MAX_HEADER_BYTES)):
            text = line.decode("utf-8", "replace").strip("\r\n")
            if fields.get("datafile", "").split(" ")[0] == "LIST":
                if text.strip():
                    listed.append(text.strip())
                continue
            if not text.strip():
                break
            if text.startswith("#"):
                continue
            key, separator, value = _split(text)
            if separator == ":=":
                key_values[key] = value
                continue
            field = _ALIASES.get(key.lower().replace(" ", ""), key.lower().replace(" ", ""))
            if not separator:
                raise VolumeError(f"{path.name}: the line {text[:60]!r} of the header is no 'field: value'; correct the header")
            if field in fields:
                raise VolumeError(f"{path.name}: {key!r} is there twice in the header; leave the right one")
            if field in _FIELDS:
                fields[field] = value.strip()
            else:
                unknown.append(key)
        return NrrdHeader(fields=fields, key_values=key_values, listed=tuple(listed), unknown=tuple(unknown), bytes=file.tell())


def _split(text: str) -> tuple[str, str, str]:
    """Key, separator and value of a line: "field: value", also without the blank, or "key:=value"."""
    key, colon, value = text.partition(":")
    return (key, ":=", value[1:]) if value.startswith("=") else (key, colon, value)
