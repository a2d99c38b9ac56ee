"""Read NIfTI-1 and NIfTI-2 files, single or in pairs, gzipped or not.

nibabel parses the header; the voxels are taken from the bytes here. SimpleITK, which reads our other formats, returns voxels of a
truncated .nii without a word, never sees a wrong gzip CRC, drops the shear of an sform and knows no NIfTI-2. Where it and we both
read a file, they agree (tests/ingest/test_geometry_against_simpleitk.py).
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from isal import igzip
from isal.igzip_lib import IsalError
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader, unit_codes
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
from nibabel.spatialimages import HeaderDataError, HeaderTypeError
from numpy.typing import NDArray

from augserver.errors import VolumeError
from augserver.geometry import Affine, affine_from_ras
from augserver.ingest.scan import Scan, check_grid, geometry_of

UNPACKING_ERRORS: tuple[type[Exception], ...] = (EOFError, gzip.BadGzipFile, IsalError)  # type: ignore[assignment]  # isal's stub errs
_HEADER_SIZES: dict[int, Any] = {348: Nifti1Header, 540: Nifti2Header}
_PAIRED: dict[int, Any] = {348: Nifti1PairHeader, 540: Nifti2PairHeader}
_SINGLE_MAGIC = (b"n+1\0", b"n+2\0")
_PAIR_MAGIC = (b"ni1\0", b"ni2\0")
_SPACE_CODES = range(6)
_READ_BYTES = 16 << 20
_MAX_PACKING = 1040  # deflate packs 1032 bytes into one at best
_MAX_PADDING = 4096  # zero bytes that some writers leave after the voxels


def read_nifti(path: Path) -> Scan:
    """Read a .nii, .nii.gz, or the .hdr of a pair whose .img lies beside it.

    Raises:
        VolumeError: truncated, corrupt, not NIfTI, no grid of real numbers, or a geometry that is missing or contradicts itself.

    A fourth axis comes back as channels, whatever it means; the caller decides whether to take them.
    """
    name = path.name
    try:
        with _open(path) as file:
            header, paired = _read_header(file, name)
            shape = _checked_shape(header, name)
            dtype = _checked_dtype(header, name)
            affine = _affine(header, shape[:3], name)
            size = int(np.prod(shape, dtype=object)) * dtype.itemsize
            offset = _checked_offset(header, name)
            if paired:
                with _open(image_of_pair(path)) as image_file:
                    data = _read_exactly(image_file, offset, size, name)
            else:
                file.seek(0)
                data = _read_exactly(file, offset, size, name)
    except UNPACKING_ERRORS as error:
        raise VolumeError(f"{name}: the gzip stream is truncated or corrupt ({error}); copy the file again from its source") from error
    except OSError as error:
        raise VolumeError(f"{name}: cannot be read ({error.strerror or error}); copy the file again from its source") from error
    voxels = np.frombuffer(data, dtype).reshape((*shape[3:], *shape[2::-1]))
    scaled = _scaled(voxels, header, name)
    notes = () if scaled is voxels else (f"scaled by slope {header['scl_slope']:g}, intercept {header['scl_inter']:g}",)
    return Scan(voxels=scaled, affine=affine, format="nifti", notes=notes)


def voxel_count(path: Path) -> int:
    """How many values a file promises, from its header alone.

    Raises:
        VolumeError, OSError, EOFError, IsalError: the header cannot be read.
    """
    with _open(path) as file:
        header, _ = _read_header(file, path.name)
    return int(np.prod(_checked_shape(header, path.name), dtype=object))


def image_of_pair(header: Path) -> Path:
    """The .img or .img.gz that belongs to a .hdr or .hdr.gz.

    Raises:
        VolumeError: there is none.
    """
    stem = header.name.removesuffix(".gz").removesuffix(".hdr")
    for suffix in (".img", ".img.gz"):
        image = header.with_name(stem + suffix)
        if image.is_file():
            return image
    raise VolumeError(f"{header.name}: its voxels are missing: neither {stem}.img nor {stem}.img.gz lies beside it")


def _open(path: Path) -> IO[bytes]:
    """Open for reading, through gzip if the content (not the name) says so; ISA-L unpacks 3.7 times as fast as zlib, and checks the CRC."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", igzip.IGzipFile(path)) if zipped else path.open("rb")


def _read_header(file: IO[bytes], name: str) -> tuple[Any, bool]:
    """The header in nibabel's class, and whether the voxels are in a second file."""
    start = file.read(540)
    magic = start[344:348] if start[344:348] in _SINGLE_MAGIC + _PAIR_MAGIC else start[4:8]
    size = min(int.from_bytes(start[:4], order) for order in ("little", "big"))
    if size not in _HEADER_SIZES or magic not in _SINGLE_MAGIC + _PAIR_MAGIC:
        raise VolumeError(
            f"{name}: is not NIfTI: its header has neither size 348 or 540 nor a NIfTI magic; "
            "ANALYZE 7.5 is not taken: it has no orientation"
        )
    paired = magic in _PAIR_MAGIC
    kind = _PAIRED[size] if paired else _HEADER_SIZES[size]
    if len(start) < size:
        raise VolumeError(f"{name}: is truncated inside the header: {len(start)} of {size} bytes; copy the file again from its source")
    try:
        header = kind(start[:size], check=False)  # nibabel's check repairs in silence, a wrong sform code to "none"; ours follow
    except (HeaderDataError, HeaderTypeError, ImageFileError, ValueError, KeyError, OverflowError) as error:
        raise VolumeError(f"{name}: the NIfTI header is damaged: {error}") from error
    if not all(int(header[key]) in _SPACE_CODES for key in ("qform_code", "sform_code")) or not 1 <= int(header["dim"][0]) <= 7:
        codes = f"qform_code {header['qform_code']}, sform_code {header['sform_code']}, known are 0 to 5"
        raise VolumeError(f"{name}: the NIfTI header is damaged: {codes}; {header['dim'][0]} axes, allowed are 1 to 7")
    return header, paired


def _checked_shape(header: Any, name: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(size) for size in header.get_data_shape())
    except (HeaderDataError, ValueError, IndexError) as error:
        raise VolumeError(f"{name}: the NIfTI header has no valid size: {error}") from error
    check_grid(shape[:3], name=name)
    further = tuple(size for size in shape[3:] if size != 1)
    if len(further) > 1 or 0 in further:
        raise VolumeError(
            f"{name}: has {len(shape)} axes {shape} (x, y, z, ...), at most one beyond the third may be longer than 1; split it"
        )
    return (*shape[:3], *(further or (1,)))


def _checked_dtype(header: Any, name: str) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = np.dtype(header.get_data_dtype())
    except (HeaderDataError, KeyError) as error:
        raise VolumeError(f"{name}: unknown NIfTI datatype {header['datatype']}") from error
    if dtype.kind not in "iuf":
        raise VolumeError(
            f"{name}: voxels of type {dtype} (colour or complex) are not grey values; convert it to one real number per voxel"
        )
    return dtype


def _checked_offset(header: Any, name: str) -> int:
    offset = float(header["vox_offset"])  # a float32 in NIfTI-1
    if not offset.is_integer() or offset < 0:
        raise VolumeError(f"{name}: the NIfTI header is damaged: its voxels begin at byte {offset}")
    return int(header.get_data_offset())


def _affine(header: Any, shape: tuple[int, ...], name: str) -> Affine:
    """The sform if there is one, else the qform; refused where the two, or the voxel sizes, place a corner elsewhere."""
    unit = unit_codes.label.get(int(header["xyzt_units"]) % 8, "unknown units")
    if unit not in ("mm", "unknown"):
        raise VolumeError(f"{name}: lengths are in {unit!r}, must be mm; convert the header")
    with geometry_of(name):
        try:
            with np.errstate(invalid="ignore"):  # NaN is found by check_affine
                sform, qform = (get(coded=True)[0] for get in (header.get_sform, header.get_qform))
        except (HeaderDataError, ValueError) as error:
            raise VolumeError(f"{name}: the NIfTI qform is damaged: {error}") from error
        if sform is None and qform is None:
            raise VolumeError(
                f"{name}: neither qform nor sform is set, so which way is left, front and up is unknown; "
                "set one, for example with nibabel's img.set_sform(affine, 1)"
            )
        affine = affine_from_ras(qform if sform is None else sform)
        seen = affine
        if sform is None or qform is None:
            other, which = _with_voxel_sizes(affine, header), "voxel sizes (pixdim)"
        else:
            other, which = affine_from_ras(qform), "qform"
            seen = _nearest_rotation(affine)
    corners = np.array(np.meshgrid(*((0, size - 1) for size in shape[::-1]), indexing="ij")).reshape(3, -1)
    apart = float(np.linalg.norm((seen - other)[:3, :3] @ corners + (seen - other)[:3, 3:], axis=0).max())
    extent = float(np.linalg.norm(affine[:3, :3] @ (np.array(shape[::-1]) - 1)))
    # float32 quaternions are good to about 1e-3 rad near half turns; half a voxel is where a label would move.
    if apart > 0.5 * float(np.linalg.norm(affine[:3, :3], axis=0).min()) + 1e-3 * extent:
        chosen = "qform" if sform is None else "sform"
        raise VolumeError(
            f"{name}: the header contradicts itself: {chosen} and {which} place a corner {apart:.1f} mm apart, and programs differ in "
            "which they believe; keep the right one: set the code of the other to 0, or correct the voxel sizes"
        )
    return affine


def _nearest_rotation(affine: Affine) -> Affine:
    """What of an affine a qform can say: the same spacing, and of its directions the nearest ones at right angles.

    It is the affine itself unless that is sheared; writers of both forms take the polar factor of the directions, as we do.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(affine[:3, :3] / spacing)
    matrix = affine.copy()
    matrix[:3, :3] = (left @ right) * spacing
    return matrix


def _with_voxel_sizes(affine: Affine, header: Any) -> Affine:
    """The affine with its columns scaled to the header's pixdim, about voxel 0."""
    matrix = affine.copy()
    sizes = np.abs(np.asarray(header["pixdim"][3:0:-1], np.float64))
    matrix[:3, :3] *= sizes / np.linalg.norm(matrix[:3, :3], axis=0)
    return matrix


def _read_exactly(file: IO[bytes], offset: int, size: int, name: str) -> NDArray[np.uint8]:
    """`size` bytes from `offset`; reads on to the end, which checks the CRC of a gzip stream and finds what should not be there.

    Memory grows with what the file really holds, not with what its header claims: pages that nothing is read into are never resident.
    """
    if not _skip(file, offset):
        raise VolumeError(f"{name}: the voxels begin at byte {offset}, beyond the end of the file; the header or the file is damaged")
    packed = isinstance(file, gzip.GzipFile)
    filled, most = 0, os.fstat(file.fileno()).st_size * (_MAX_PACKING if packed else 1)
    data = np.empty(min(size, most), np.uint8)
    while filled < data.size and (count := file.readinto(data.data[filled : filled + _READ_BYTES])):  # type: ignore[attr-defined]
        filled += count
    if filled < size:
        raise VolumeError(
            f"{name}: is truncated: the header promises {size} bytes of voxels, the file has {filled}; copy it again from its source"
        )
    rest = file.read(_MAX_PADDING + 1)
    if len(rest) > _MAX_PADDING or any(rest):
        raise VolumeError(
            f"{name}: holds more than the {size} bytes of voxels its header promises: header and voxels do not belong together"
        )
    return data


def _skip(file: IO[bytes], count: int) -> bool:
    """Read past `count` bytes without keeping them; False if there are fewer."""
    while count and (part := file.read(min(_READ_BYTES, count))):
        count -= len(part)
    return not count


def _scaled(voxels: NDArray[Any], header: Any, name: str) -> NDArray[Any]:
    """Apply slope and intercept, plane by plane in float64, to float32; voxels without a slope keep their dtype."""
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise VolumeError(f"{name}: the intensity scaling is damaged: {error}") from error
    if np.isinf(header["scl_slope"]):
        raise VolumeError(f"{name}: the intensity scaling is damaged: slope {header['scl_slope']}")
    if slope is None or (slope == 1 and not intercept):
        return voxels
    scaled = np.empty(voxels.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows becomes infinite, which is refused later by count
        for index in np.ndindex(voxels.shape[:2]):
            scaled[index] = voxels[index].astype(np.float64) * slope + (intercept or 0.0)
    return scaled
