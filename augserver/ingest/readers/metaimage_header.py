"""The text before the voxels of a MetaImage: its fields, as MetaIO reads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from augserver.errors import VolumeError

_MAX_HEADER_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaHeader:
    """What the header says, not interpreted.

    Attributes:
        name: of the file, for errors.
        fields: by name, which counts with its case.
        listed: names of the data files, where ElementDataFile is LIST.
        bytes: its length, where voxels of a LOCAL data file begin.
    """

    name: str
    fields: dict[str, str]
    listed: tuple[str, ...]
    bytes: int

    def one_of(self, *keys: str) -> str | None:
        """The value of fields that mean the same; None if none is there.

        Raises:
            VolumeError: two of them contradict each other: programs differ in which they believe.
        """
        values = {key: " ".join(self.fields[key].split()) for key in keys if key in self.fields}
        if len(set(values.values())) > 1:
            told = ", ".join(f"{key} = {value}" for key, value in values.items())
            raise VolumeError(f"{self.name}: the header contradicts itself: {told} mean the same field; leave the right one")
        return next(iter(values.values()), None)

    def numbers(self, key: str, text: str | None, count: int, default: str) -> list[float]:
        """`count` numbers of a field's text.

        Raises:
            VolumeError: it has other words, or another number of them.
        """
        words = (default if text is None else text).split()
        try:
            numbers = [float(word) for word in words]
        except ValueError:
            numbers = []
        if len(numbers) != count:
            raise VolumeError(f"{self.name}: {key} must be {count} numbers, got {text!r}; correct the header")
        return numbers

    def is_true(self, *keys: str, default: bool) -> bool:
        """A field that is True or False, of keys that mean the same."""
        text = self.one_of(*keys)
        if text is None:
            return default
        if text[:1].upper() not in ("T", "1", "F", "0", "N", "Y"):
            raise VolumeError(f"{self.name}: {keys[0]} must be True or False, got {text!r}; correct the header")
        return text[:1].upper() in ("T", "1", "Y")


def read_metaimage_header(path: Path) -> MetaHeader:
    """Read up to ElementDataFile, which is the last field by definition, and the list of files that may follow it.

    Raises:
        VolumeError: no MetaImage, or a field stands there twice.
        OSError: the file cannot be read.
    """
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        while file.tell() < _MAX_HEADER_BYTES and (line := file.readline(_MAX_HEADER_BYTES)):
            text = line.decode("utf-8", "replace")
            key, separator, value = (part.strip() for part in text.partition("=" if "=" in text else ":"))
            if not separator:
                continue
            if fields.setdefault(key, value) != value:
                raise VolumeError(f"{path.name}: {key} is there twice in the header; leave the right one")
            if key == "ElementDataFile":
                end = file.tell()
                names = file.read(_MAX_HEADER_BYTES).decode("utf-8", "replace").splitlines() if fields[key].startswith("LIST") else []
                return MetaHeader(name=path.name, fields=fields, listed=tuple(each.strip() for each in names if each.strip()), bytes=end)
    raise VolumeError(f"{path.name}: is no MetaImage: there is no ElementDataFile in its header")
