"""Read NRRD and MetaImage files with SimpleITK, after our own look at what it would let pass."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from augserver.errors import VolumeError
from augserver.geometry import affine_from_itk
from augserver.ingest.readers.metaimage import check_metaimage
from augserver.ingest.readers.nrrd import check_nrrd
from augserver.ingest.readers.payload import Payload
from augserver.ingest.readers.simple_itk import sitk
from augserver.ingest.scan import Scan, geometry_of


def read_metaimage(path: Path) -> Scan:
    """Read a .mha, or a .mhd whose data file lies beside it.

    Raises:
        VolumeError: truncated, corrupt, no 3-D grid of real numbers, or without voxel size.
    """
    return _read(path, "metaimage", "MetaImageIO", check_metaimage)


def read_nrrd(path: Path) -> Scan:
    """Read a .nrrd, or a .nhdr whose data file lies beside it.

    Raises:
        VolumeError: truncated, corrupt, no 3-D grid of real numbers, or without space directions.
    """
    return _read(path, "nrrd", "NrrdImageIO", check_nrrd)


def _read(path: Path, kind: str, reader: str, check: Callable[[Path], tuple[tuple[int, ...], Payload]]) -> Scan:
    try:
        size, payload = check(path)
        image = sitk.ReadImage(str(path), imageIO=reader)
    except OSError as error:
        raise VolumeError(f"{path.name}: cannot be read ({error.strerror or error}); copy the file again from its source") from error
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].replace(str(path.parent), "")
        raise VolumeError(f"{path.name}: SimpleITK cannot read it: {reason}; copy the file again from its source") from error
    if image.GetSize() != size:
        raise VolumeError(f"{path.name}: SimpleITK finds the size {image.GetSize()}, the header says {size}; write the file again")
    components = image.GetNumberOfComponentsPerPixel()
    if components != 1:
        raise VolumeError(f"{path.name}: has {components} values per voxel, must be one; split the channels into files of their own")
    direction = np.reshape(image.GetDirection(), (3, 3))
    if not np.allclose(np.linalg.norm(direction, axis=0), 1.0, atol=1e-3):
        raise VolumeError(
            f"{path.name}: its direction has columns that are not of length 1, so the voxel size is ambiguous; correct the header"
        )
    with geometry_of(path.name):
        affine = affine_from_itk(image.GetOrigin(), image.GetSpacing(), image.GetDirection())
    voxels = sitk.GetArrayFromImage(image)
    # MetaIO fills what it cannot decode with whatever is in memory; so nothing is believed that is not in the file, in either byte order.
    if payload.crc32 not in (zlib.crc32(voxels.data), zlib.crc32(voxels.byteswap().data)):
        raise VolumeError(f"{path.name}: SimpleITK finds other voxels than are in the file: the header misleads it; write the file again")
    return Scan(voxels=voxels[None], affine=affine, format=kind)
