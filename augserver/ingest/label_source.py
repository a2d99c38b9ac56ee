"""Where the label of one scan comes from: a file, a file per class, or a picture per slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from augserver.errors import VolumeError
from augserver.geometry import Affine, to_canonical
from augserver.ingest.readers.dicom import stack_of
from augserver.ingest.readers.dicom_header import DicomSlice
from augserver.ingest.readers.formats import files_of, read_file
from augserver.ingest.scan import canonical_scan, one_channel

_SHOWN = 8


class LabelGrid(NamedTuple):
    """Class ids on the label's own grid.

    Attributes:
        ids: uint8 (Z, Y, X), axes to Superior, Posterior, Left as nearly as flips come; they may be sheared.
        affine: (4, 4), zyx voxel -> xyz LPS mm.
        notes: for the report.
    """

    ids: NDArray[np.uint8]
    affine: Affine
    notes: tuple[str, ...] = ()


class LabelSource(Protocol):
    """The label of one scan, not read yet."""

    def paths(self) -> tuple[Path, ...]:
        """The files that it names; the disk is not asked."""

    def files(self) -> list[Path]:
        """Every file it comes from."""

    def read(self) -> LabelGrid:
        """Read it.

        Raises:
            VolumeError: a file cannot be trusted, or its values are no class ids 0..255.
        """


@dataclass(frozen=True, slots=True)
class LabelFile:
    """One file whose values are class ids."""

    path: Path

    def paths(self) -> tuple[Path, ...]:
        return (self.path,)

    def files(self) -> list[Path]:
        return files_of(self.path)

    def read(self) -> LabelGrid:
        scan = canonical_scan(read_file(self.path))
        return LabelGrid(_class_ids(one_channel(scan, name=self.path.name), self.path.name), scan.affine)


@dataclass(frozen=True, slots=True)
class LabelMasks:
    """One file per class, all on one grid; what is not 0 belongs to the class. Where masks overlap, the higher id stands."""

    masks: Mapping[int, Path]

    def paths(self) -> tuple[Path, ...]:
        return tuple(self.masks.values())

    def files(self) -> list[Path]:
        return [file for path in self.masks.values() for file in files_of(path)]

    def read(self) -> LabelGrid:
        merged: LabelGrid | None = None
        overlap = 0
        for class_id, path in sorted(self.masks.items()):
            scan = canonical_scan(read_file(path))
            inside = one_channel(scan, name=path.name) != 0
            if merged is None:
                merged = LabelGrid(np.zeros(scan.grid, np.uint8), scan.affine)
            if scan.grid != merged.ids.shape or not np.allclose(scan.affine, merged.affine, atol=1e-3):
                raise VolumeError(f"{path.name}: lies on another grid than the masks before it; masks of a case must share one")
            overlap += int(np.count_nonzero(merged.ids[inside]))
            merged.ids[inside] = class_id
        if merged is None:
            raise VolumeError("the folder of masks is empty; add the masks, or take the case out")
        notes = (f"{len(self.masks)} masks merged",) + ((f"{overlap} voxels in two masks: the higher id stands",) if overlap else ())
        return merged._replace(notes=notes)


@dataclass(frozen=True, slots=True)
class LabelPictures:
    """One PNG per DICOM slice, in the order of file names; `ids` says which grey value is which class."""

    pictures: Sequence[Path]
    slices: Sequence[DicomSlice]
    ids: Mapping[int, int]

    def paths(self) -> tuple[Path, ...]:
        return tuple(self.pictures)

    def files(self) -> list[Path]:
        return list(self.pictures)

    def read(self) -> LabelGrid:
        if len(self.pictures) != len(self.slices):
            raise VolumeError(f"there are {len(self.pictures)} label pictures for {len(self.slices)} slices; one for each is needed")
        stack = stack_of(self.slices, name=self.pictures[0].parent.name)
        by_name = sorted(self.slices, key=lambda one: one.file.name)
        picture_of = {one.file: picture for one, picture in zip(by_name, sorted(self.pictures), strict=True)}
        table = np.full(256, -1, np.int16)
        for grey, class_id in self.ids.items():
            table[grey] = class_id
        ids = np.empty((len(stack.ordered), stack.ordered[0].rows, stack.ordered[0].columns), np.uint8)
        for one, plane in zip(stack.ordered, ids, strict=True):
            picture = picture_of[one.file]
            found = table[_read_picture(picture, plane.shape)]
            if found.min() < 0:
                raise VolumeError(f"{picture.name}: has grey values that are no class; allowed: {sorted(self.ids)}")
            plane[...] = found
        turned, affine = to_canonical(ids, stack.affine)
        return LabelGrid(turned, affine, (f"label from {len(self.pictures)} pictures",))


def _read_picture(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            if picture.size != shape[::-1]:
                raise VolumeError(f"{path.name}: is {picture.size} pixels (x, y), its slice {shape[::-1]}; they do not belong together")
            return np.asarray(picture.convert("L"), np.uint8)
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises SyntaxError for broken chunks
        raise VolumeError(f"{path.name}: is no readable PNG ({error}); copy it again from its source") from error


def _class_ids(voxels: NDArray[np.generic], name: str) -> NDArray[np.uint8]:
    ids = np.empty(voxels.shape, np.uint8)
    wrong = np.empty(0, voxels.dtype)
    for index, plane in enumerate(voxels):
        with np.errstate(invalid="ignore"):  # NaN and what lies beyond uint8 is found by the comparison
            np.copyto(ids[index], plane, casting="unsafe")
        differs = ids[index] != plane
        if differs.any():
            wrong = np.unique(np.concatenate([wrong, plane[differs]]))[: _SHOWN + 1]
    if wrong.size:
        shown = ", ".join([f"{value:g}" for value in wrong[:_SHOWN].tolist()] + ["..."] * (wrong.size > _SHOWN))
        raise VolumeError(f"{name}: has values that are no class ids: {shown}; allowed: whole numbers 0 to 255; renumber the classes")
    return ids
