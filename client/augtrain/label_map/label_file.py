"""Read label maps from NIfTI files; what is no label map is refused.

Values that miss a whole number by the rounding of a scaled or interpolating tool are taken for it, and said; nothing else is rounded.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from augclient.errors import GeometryError, NotFoundError, VolumeError
from numpy.typing import NDArray

from augtrain.label_map.class_names import class_names_of

SUFFIXES = (".nii.gz", ".nii")

_MAX_ID = 65535
_SHOWN = 6
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_REVERSED = np.eye(4)[[2, 1, 0, 3]]  # zyx <-> xyz
_WHOLE_WITHIN = 1e-3  # SPM keeps ids as int16 with a slope of n/32767, which gives 2.99991 for 3
_MAX_COSINE = 1e-3  # between two axes; header rounding stays below, a tilted gantry is far above


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Where voxels lie.

    Attributes:
        shape: (Z, Y, X).
        affine: float64 (4, 4), zyx voxel -> xyz LPS mm.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """zyx, the lengths of the affine's columns."""
        z, y, x = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)

    @property
    def sheared_directions(self) -> NDArray[np.float64] | None:
        """Where the axes z, y, x point, (3, 3) unit rows in xyz LPS; None where they are at right angles, as in most scans."""
        units = self.affine[:3, :3].T / np.array(self.spacing_mm)[:, None]
        return units if np.abs(units @ units.T - np.eye(3)).max() > _MAX_COSINE else None


@dataclass(frozen=True, slots=True, eq=False)
class LabelFile:
    """A label map whose header is read and whose voxels are not yet.

    Attributes:
        grid: see Grid.
        classes: id -> name, as the header has them; None where it has none.
    """

    path: Path
    grid: Grid
    classes: dict[int, str] | None

    def read(self, notes: list[str] | None = None) -> NDArray[np.unsignedinteger[Any]]:
        """The ids, (Z, Y, X) uint8 or, where ids exceed 255, uint16.

        Args:
            notes: gets a sentence if values are taken for the whole numbers that they miss by less than 0.001.
        Raises:
            VolumeError: truncated or corrupt, or values that are no whole numbers from 0 to 65535.
        """
        with _image(self.path) as (image, file):
            voxels = np.asanyarray(image.dataobj)
            while file.read(1 << 20):  # to the end: gzip compares its checksum there
                pass
        return _ids(voxels.T.reshape(self.grid.shape), self.path.name, [] if notes is None else notes)


def open_label_file(path: Path) -> LabelFile:
    """Read the header of a .nii or .nii.gz.

    Raises:
        NotFoundError: there is no such file.
        VolumeError: not NIfTI, damaged, or more than one volume.
        GeometryError: its grid has no meaning in mm.
    """
    with _image(path) as (image, _):
        shape = tuple(int(size) for size in image.shape)
        if len(shape) < 2 or 0 in shape or any(size != 1 for size in shape[3:]):
            raise VolumeError(f"{path.name}: has shape {shape} (x, y, z, ...), a label map is one volume with one id per voxel; split it")
        unit = image.header.get_xyzt_units()[0]
        if unit not in ("mm", "unknown"):
            raise GeometryError(f"{path.name}: lengths are in {unit!r}, must be mm; convert the header")
        x, y, z = (*shape[:3], 1)[:3]
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is found by _checked
            affine = _RAS_TO_LPS @ np.asarray(image.affine, np.float64) @ _REVERSED
        classes = class_names_of(image.header, path.name)
    return LabelFile(path=path, grid=Grid((z, y, x), _checked(affine, path.name)), classes=classes)


@contextmanager
def _image(path: Path) -> Iterator[tuple[Any, Any]]:
    """nibabel's image and the stream that its voxels come from; what either raises on damage is a VolumeError."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError, HeaderTypeError
    from nibabel.wrapstruct import WrapStructError

    if not path.is_file():
        raise NotFoundError(f"there is no label map {path}")
    if not path.name.lower().endswith(SUFFIXES):
        raise VolumeError(
            f"{path.name}: label maps are read from {' and '.join(SUFFIXES)}; convert it, for example with SimpleITK: "
            "SimpleITK.WriteImage(SimpleITK.ReadImage('in.nrrd'), 'out.nii.gz')"
        )
    damaged = (
        EOFError,
        zlib.error,
        ValueError,
        LookupError,
        ImageFileError,
        HeaderDataError,
        HeaderTypeError,
        WrapStructError,
        OverflowError,
    )
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stream = cast(Any, gzip.GzipFile(fileobj=raw)) if packed else raw
            kind = nibabel.Nifti2Image if int.from_bytes(stream.read(4), "little") in (540, 0x1C020000) else nibabel.Nifti1Image
            stream.seek(0)
            yield kind.from_stream(stream), stream
    except (*damaged, gzip.BadGzipFile) as error:
        raise VolumeError(f"{path.name}: is truncated, damaged or not NIfTI ({error}); write it again or copy it anew") from error
    except OSError as error:  # nibabel's word for too few bytes, too
        raise VolumeError(f"{path.name}: cannot be read ({error}); write it again or copy it anew") from error


def _checked(affine: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    # the determinant of the unit axes is the volume they span: 1 at right angles, 0 if they lie in one plane
    if not np.isfinite(affine).all() or not spacing.min() > 0 or abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-3:
        raise GeometryError(f"{name}: its affine places no grid in space: {affine.tolist()}; correct the header")
    return affine


def _ids(voxels: NDArray[Any], name: str, notes: list[str]) -> NDArray[np.unsignedinteger[Any]]:
    """The values as ids, C order; float files are taken if every value is whole, or almost."""
    if voxels.dtype.kind not in "iufb":
        raise VolumeError(f"{name}: voxels of type {voxels.dtype} (colour or complex) are no class ids")
    if voxels.dtype.kind == "f":
        with np.errstate(invalid="ignore"):  # infinity less infinity
            whole = np.rint(voxels)
            missed_by = np.abs(voxels - whole)
        wrong = voxels[~(missed_by <= _WHOLE_WITHIN)]
        if wrong.size:
            raise VolumeError(
                f"{name}: {wrong.size} of its values are not whole, such as {_shown(wrong)}: it is no label map, or was interpolated; "
                "use the argmax of probabilities, or resample labels with nearest neighbour"
            )
        almost = voxels[missed_by > 0]
        if almost.size:
            notes.append(f"{name}: {almost.size} of its values are almost whole, such as {_shown(almost)}, and are rounded")
        voxels = whole
    low, high = int(voxels.min()), int(voxels.max())
    if low < 0 or high > _MAX_ID:
        raise VolumeError(f"{name}: ids run from {low} to {high}, allowed are 0 to {_MAX_ID}; renumber the classes")
    return np.array(voxels, np.uint8 if high <= 255 else np.uint16, order="C")  # a copy: nibabel may have mapped the file


def _shown(values: NDArray[Any]) -> str:
    return ", ".join(f"{value:.9g}" for value in np.unique(values)[:_SHOWN].tolist())
