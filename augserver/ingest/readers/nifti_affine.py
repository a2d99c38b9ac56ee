"""Where a NIfTI header places its voxels: by its sform, its qform, and its unit of length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from nibabel.quaternions import quat2mat
from numpy.typing import NDArray

from augserver.errors import GeometryError, VolumeError
from augserver.geometry import Affine, affine_from_ras, affine_of
from augserver.ingest.readers.units import affine_in_mm

NIFTI_AFFINES = ("auto", "sform", "qform")
"""Which of two forms that disagree is believed; "auto": the sform where nibabel and SimpleITK agree on it, else neither."""
UNPLACED = "unplaced"
"""Neither form, but the place of voxel numbers: for labels that are taken voxel for voxel, in any format."""
_SCANNER = 1  # code of a form
_UNITS = {0: "mm", 1: "m", 2: "mm", 3: "um"}
_HALF_TURN = 3  # times the resolution of the fields: |1 - b² - c² - d²| below which a is 0, as nibabel has it
_ROUNDED = 2e-3  # how far b² + c² + d² may exceed 1: three decimals as text; float32 gives 1e-6


class _Form(NamedTuple):
    """An affine that a header gives; or why it is damaged, which does not matter if another form is good."""

    affine: Affine | None
    problem: str = ""
    notes: tuple[str, ...] = ()


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is found by check_affine
def affine_of_nifti(fields: Any, shape: Sequence[int], believe: str, *, name: str) -> tuple[Affine, tuple[str, ...]]:
    """The affine (zyx voxel -> xyz LPS mm), and notes.

    The sform if there is one, else the qform. The two must agree to half a voxel, and the voxel sizes with what is taken.

    Args:
        fields: nibabel's header.
        shape: (x, y, z).
        believe: one of NIFTI_AFFINES, or UNPLACED.
        name: for errors.
    Raises:
        VolumeError: no form is set, none is good, or they contradict each other and `believe` does not say which is right.
    """
    if believe == UNPLACED:
        return affine_of((1, 1, 1)), ()
    forms = {}
    if fields["sform_code"]:
        forms["sform"] = _sform(fields)
    if fields["qform_code"]:
        forms["qform"] = _qform(fields)
    if not forms:
        raise VolumeError(
            f"{name}: neither qform nor sform is set, so which way is left, front and up is unknown; "
            "set one, for example with nibabel's img.set_sform(affine, 1), or if it is a label, pass --labels-by-voxel"
        )
    good = {key: form.affine for key, form in forms.items() if form.affine is not None}
    if not good:
        raise VolumeError(f"{name}: {'; '.join(f'the NIfTI {key} {form.problem}' for key, form in forms.items())}; correct the header")
    chosen = believe if believe in good else next(iter(good))
    affine = good[chosen]
    notes = sum((form.notes for form in forms.values()), _pixdim_notes(fields))
    notes += tuple(f"the {key} {form.problem}: {chosen} taken" for key, form in forms.items() if form.affine is None)
    if believe == "qform" and "qform" not in forms:
        notes += ("no qform is set: sform taken",)
    notes += _agreement(fields, good, chosen, shape, believe, name)
    code = int(fields["xyzt_units"]) % 8
    if code not in _UNITS:
        notes += (f"xyzt_units has the unknown unit of length {code}: mm taken",)
    affine, converted = affine_in_mm(affine, [_UNITS.get(code, "mm")], name=name)
    return affine, notes + converted


def _sform(fields: Any) -> _Form:
    rows = np.array([fields[key] for key in ("srow_x", "srow_y", "srow_z")], np.float64)
    try:
        return _Form(affine_from_ras(np.vstack([rows, [0, 0, 0, 1]])))
    except GeometryError as error:
        return _Form(None, f"is damaged: {_briefly(error)}")


def _qform(fields: Any) -> _Form:
    """Rotation by quaternion, voxel sizes by pixdim; only the sign of qfac (pixdim[0]) counts, and 0 means 1."""
    bcd = np.array([fields[key] for key in ("quatern_b", "quatern_c", "quatern_d")], np.float64)
    rest = 1 - float(bcd @ bcd)
    if not rest >= -_ROUNDED:
        return _Form(None, f"is damaged: the quaternion b, c, d = {bcd[0]:g}, {bcd[1]:g}, {bcd[2]:g} is of no length up to 1")
    half_turn = _HALF_TURN * float(np.finfo(fields["quatern_b"].dtype).eps)  # float32 in NIfTI-1, float64 in NIfTI-2
    notes: tuple[str, ...] = () if rest >= -half_turn else (f"the quaternion of the qform is {-rest / 2:.2g} too long: shortened to 1",)
    sizes, qfac = _voxel_sizes(fields), float(fields["pixdim"][0])
    if sizes is None:
        return _Form(None, f"gives no voxel size: pixdim is {_pixdim_shown(fields)}")
    if not qfac or abs(qfac) != 1:
        notes += () if qfac == 0 else (f"qfac (pixdim[0]) is {qfac:g}, must be 1 or -1: {'-1' if qfac < 0 else '1'} taken, by its sign",)
    matrix = np.eye(4)
    matrix[:3, :3] = quat2mat([0.0 if rest < half_turn else np.sqrt(rest), *bcd]) * sizes * [1, 1, -1 if qfac < 0 else 1]
    matrix[:3, 3] = [fields[key] for key in ("qoffset_x", "qoffset_y", "qoffset_z")]
    try:
        return _Form(affine_from_ras(matrix), notes=notes)
    except GeometryError as error:
        return _Form(None, f"is damaged: {_briefly(error)}")


def _briefly(error: GeometryError) -> str:
    return str(error).partition(": [[")[0]  # without the matrix


def _voxel_sizes(fields: Any) -> NDArray[np.float64] | None:
    """xyz, positive; None if one is not given."""
    sizes = np.abs(np.asarray(fields["pixdim"][1:4], np.float64))
    return sizes if np.isfinite(sizes).all() and sizes.all() else None


def _pixdim_shown(fields: Any) -> str:
    return ", ".join(f"{size:g}" for size in fields["pixdim"][1:4])


def _pixdim_notes(fields: Any) -> tuple[str, ...]:
    if np.asarray(fields["pixdim"][1:4]).min() < 0:
        return (f"pixdim is {_pixdim_shown(fields)}: the sign is not used, as nibabel has it; SimpleITK turns the axis",)
    return ()


def _agreement(fields: Any, good: dict[str, Affine], chosen: str, shape: Sequence[int], believe: str, name: str) -> tuple[str, ...]:
    """A note if another form, or the voxel sizes, place a corner elsewhere than the chosen form.

    Raises:
        VolumeError: they do, and nobody said which is right.
    """
    affine, sizes = good[chosen], _voxel_sizes(fields)
    apart = {}  # mm
    if len(good) == 2:
        apart["qform" if chosen == "sform" else "sform"] = _apart(_nearest_rotation(good["sform"]), good["qform"], shape)
    if sizes is not None and chosen == "sform":
        sized = affine.copy()
        sized[:3, :3] *= sizes[::-1] / np.linalg.norm(affine[:3, :3], axis=0)
        apart["voxel sizes (pixdim)"] = _apart(affine, sized, shape)
    voxel = float(np.linalg.norm(affine[:3, :3], axis=0).min())
    # float32 quaternions are good to about 1e-3 rad near half turns
    rounding = 1e-3 * float(np.linalg.norm(affine[:3, :3] @ (np.array(shape[::-1]) - 1)))
    moved = [which for which, distance in apart.items() if distance > 0.5 * voxel + rounding]  # where a label would move
    agreed = believe == "auto" and moved == ["qform"] and fields["sform_code"] == _SCANNER  # nibabel and SimpleITK take the sform
    told = {which: f"{chosen} and {which} place a corner {distance:.2f} mm apart" for which, distance in apart.items()}
    if moved and chosen != believe and not agreed:
        raise VolumeError(
            f"{name}: the header contradicts itself: {told[moved[0]]}, and programs differ in which they believe; pass --nifti-affine "
            "sform or qform, or set the code of the wrong one to 0, or correct the voxel sizes"
        )
    notes = tuple(f"{told[which]}: {chosen} taken" for which, distance in apart.items() if distance > 0.1 * voxel + rounding)
    if sizes is None and not fields["qform_code"]:
        notes += (f"the voxel sizes (pixdim) are {_pixdim_shown(fields)}: sform taken",)
    return notes


def _apart(one: Affine, other: Affine, shape: Sequence[int]) -> float:
    """How far apart two affines place a corner of a grid, at most, in mm."""
    corners = np.array(np.meshgrid(*((0, size - 1) for size in shape[::-1]), indexing="ij")).reshape(3, -1)
    return float(np.linalg.norm((one - other)[:3, :3] @ corners + (one - other)[:3, 3:], axis=0).max())


def _nearest_rotation(affine: Affine) -> Affine:
    """What of an affine a qform can say: the same spacing, and of its directions the nearest ones at right angles.

    It is the affine itself unless that is sheared; writers of both forms take the polar factor of the directions, as we do.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(affine[:3, :3] / spacing)
    matrix = affine.copy()
    matrix[:3, :3] = (left @ right) * spacing
    return matrix
