"""Write what was predicted as NIfTI on the scan's own grid: whole files or none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from augclient.errors import StateError
from numpy.typing import NDArray

from augtrain.label_map import Grid, class_names_extension

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_REVERSED = np.eye(4)[[2, 1, 0, 3]]  # zyx <-> xyz
_MAX_COSINE = 1e-6  # between axes, above which a quaternion cannot tell the grid
_SCANNER = 1  # NIFTI_XFORM_SCANNER_ANAT


def write_label(path: Path, label: NDArray[np.uint8], grid: Grid, classes: Mapping[int, str]) -> None:
    """Write a label map.

    Args:
        path: ends in .nii or .nii.gz; replaced if it is there.
        label: uint8 (Z, Y, X) on `grid`.
        classes: id -> name, which go into the file.
    Raises:
        StateError: it cannot be written.
    """
    image = _image(label.T, grid)
    image.header.extensions.append(class_names_extension(classes))
    image.header["cal_max"] = max(classes)
    _save(image, path)


def write_probabilities(path: Path, shares: NDArray[np.uint8], grid: Grid, classes: Mapping[int, str]) -> None:
    """Write class probabilities in steps of 1/255, which readers see as numbers from 0 to 1.

    Args:
        path: as for write_label.
        shares: uint8 (K, Z, Y, X) on `grid`, 255 times the probability; K becomes the fourth axis, in the order of ids.
        classes: as for write_label.
    Raises:
        StateError: it cannot be written.
    """
    image = _image(shares.T, grid)
    image.header.extensions.append(class_names_extension(classes))
    image.header.set_slope_inter(1 / 255, 0)
    _save(image, path)


def _image(voxels: NDArray[np.uint8], grid: Grid) -> Any:
    """A NIfTI image of (X, Y, Z, ...) voxels."""
    import nibabel

    affine = _LPS_TO_RAS @ grid.affine @ _REVERSED
    image = nibabel.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, _SCANNER)
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    upright = np.abs(axes.T @ axes - np.eye(3)).max() < _MAX_COSINE
    image.set_qform(affine, _SCANNER if upright else 0)  # a quaternion would lose a shear: readers then take the sform
    return image


def _save(image: Any, path: Path) -> None:
    fresh = path.with_name(f".partial-{path.name}")
    try:
        image.to_filename(fresh)
        fresh.replace(path)
    except OSError as error:
        raise StateError(f"{path} cannot be written ({error}); free space, or choose another folder") from error
    finally:
        fresh.unlink(missing_ok=True)  # gone already unless something failed
