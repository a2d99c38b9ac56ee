"""Where the label of one scan comes from: a file, a file per class, or a picture per slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from augserver.errors import VolumeError
from augserver.geometry import Affine
from augserver.ingest.label_place import same_grid, turned
from augserver.ingest.label_values import class_ids, mask_of
from augserver.ingest.masks import merge_masks
from augserver.ingest.readers.dicom import stack_of
from augserver.ingest.readers.dicom_header import DicomSlice
from augserver.ingest.readers.formats import READERS, files_of, read_file, split_suffix
from augserver.ingest.scan import Scan, one_channel

LABEL_SUFFIXES = (*READERS, ".seg.nrrd", ".seg.nhdr")
"""Of files that may be labels; 3D Slicer calls its segmentation of case1.nrrd case1.seg.nrrd."""


class LabelGrid(NamedTuple):
    """Class ids on the label's own grid.

    Attributes:
        ids: uint8 (Z, Y, X), axes as the file has them; they may be sheared.
        affine: (4, 4), zyx voxel -> xyz LPS mm.
        notes: for the report and the store: without names of files.
        notices: what looks wrong about it, likewise.
        cropped: whether its program stores no more of the image than holds a class, so that all beyond its grid is background.
    """

    ids: NDArray[np.uint8]
    affine: Affine
    notes: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    cropped: bool = False


class LabelSource(Protocol):
    """The label of one scan, not read yet."""

    def paths(self) -> tuple[Path, ...]:
        """The files that it names; the disk is not asked."""

    def files(self) -> list[Path]:
        """Every file it comes from."""

    def read(self, *, overlap: str, nifti_affine: str) -> LabelGrid:
        """Read it.

        Args:
            overlap: which class has a voxel that several claim, see masks.merge_masks.
            nifti_affine: one of nifti_affine.NIFTI_AFFINES.
        Raises:
            VolumeError: a file cannot be trusted, its values are no class ids 0..255, or classes overlap in a way that is not allowed.
        """


def read_notes(scan: Scan) -> tuple[str, ...]:
    """What the reader of a label's file has to say."""
    return tuple(f"label: {note}" for note in scan.notes)


@dataclass(frozen=True, slots=True)
class LabelFile:
    """One file whose values are class ids.

    Attributes:
        path: of the file.
        foreign: names of ids that come from other labels: whether they hold here is unknown, so the file may not use those ids.
    """

    path: Path
    foreign: Mapping[int, str] = field(default_factory=dict)

    def paths(self) -> tuple[Path, ...]:
        return (self.path,)

    def files(self) -> list[Path]:
        return files_of(self.path)

    def read(self, *, overlap: str, nifti_affine: str) -> LabelGrid:
        scan = read_file(self.path, nifti_affine)
        if len(scan.voxels) > 1:
            raise VolumeError(
                f"{self.path.name}: has {len(scan.voxels)} channels (a fourth axis), a label has one class id per voxel; "
                "if each channel is a class (one-hot), join them in one 3-D file, for example by argmax over the channels"
            )
        ids, notes = class_ids(scan.voxels[0], name=self.path.name)
        for key, class_name in self.foreign.items():
            if (ids == key).any():
                raise VolumeError(
                    f"{self.path.name}: has the value {key}, which other labels of the dataset call {class_name!r}, and does not say "
                    "what it is; ingest into a new dataset, with --classes"
                )
        return LabelGrid(ids, scan.affine, read_notes(scan) + notes)


@dataclass(frozen=True, slots=True)
class LabelMasks:
    """One file per class, all on one grid: 0 outside, 1 or 255 inside."""

    masks: Mapping[int, Path]

    def paths(self) -> tuple[Path, ...]:
        return tuple(self.masks.values())

    def files(self) -> list[Path]:
        return [file for path in self.masks.values() for file in files_of(path)]

    def read(self, *, overlap: str, nifti_affine: str) -> LabelGrid:
        grids: dict[str, tuple[tuple[int, ...], Affine]] = {}
        notes: dict[str, None] = {}

        def read_mask(class_id: int) -> NDArray[np.bool_]:
            path = self.masks[class_id]
            scan = read_file(path, nifti_affine)
            inside, told = mask_of(one_channel(scan, name=path.name), name=path.name)
            grids[path.name] = scan.grid, scan.affine
            notes.update(dict.fromkeys((*read_notes(scan), *(f"mask {split_suffix(path)[0]}: {note}" for note in told))))
            first, grid = next(iter(grids.items()))
            fit, _ = same_grid(*grid, scan.grid, scan.affine)
            if fit is None:
                raise VolumeError(f"{path.name}: lies on another grid than {first}; masks of a case must share one: resample them first")
            return turned(inside, fit)

        names = {class_id: split_suffix(path)[0] for class_id, path in self.masks.items()}
        ids, lost = merge_masks(names, read_mask, overlap=overlap)
        return LabelGrid(ids, next(iter(grids.values()))[1], (f"{len(names)} masks merged", *notes, *lost))


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

    def read(self, *, overlap: str, nifti_affine: str) -> LabelGrid:
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
        return LabelGrid(ids, stack.affine, (f"label from {len(self.pictures)} pictures",))


def _read_picture(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            if picture.size != shape[::-1]:
                raise VolumeError(f"{path.name}: is {picture.size} pixels (x, y), its slice {shape[::-1]}; they do not belong together")
            return np.asarray(picture.convert("L"), np.uint8)
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises SyntaxError for broken chunks
        raise VolumeError(f"{path.name}: is no readable PNG ({error}); copy it again from its source") from error
