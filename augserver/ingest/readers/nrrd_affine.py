"""Which axes of an NRRD run through the patient, and where: by space, space directions and space origin."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from augserver.errors import VolumeError
from augserver.geometry import Affine, affine_from_itk
from augserver.ingest.readers.nrrd_header import NrrdHeader
from augserver.ingest.readers.units import affine_in_mm
from augserver.ingest.scan import check_grid, geometry_of

_TO_LPS = {
    "left-posterior-superior": (1, 1, 1), "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
}  # fmt: skip
_WITH_TIME = {"left-posterior-superior-time": "lps", "lpst": "lps", "right-anterior-superior-time": "ras", "rast": "ras",
              "left-anterior-superior-time": "las", "last": "las"}  # fmt: skip
_LABEL = ", or if it is a label, pass --labels-by-voxel"
_SPATIAL_KINDS = ("domain", "space", "???", "none")
_CHANNEL_KINDS = (*_SPATIAL_KINDS, "list", "vector", "time", "scalar", "stub")
_QUOTED = re.compile(r'"([^"]*)"|(\S+)')
_VECTOR = re.compile(r"\s*(none|nan|\(([^()]*)\))", re.IGNORECASE)


def affine_of_nrrd(header: NrrdHeader, sizes: tuple[int, ...], name: str) -> tuple[Affine, tuple[int, int, int], tuple[str, ...]]:
    """The affine (zyx voxel -> xyz LPS mm), the axes of the file that are x, y and z, and notes.

    Raises:
        VolumeError: fewer or more than three axes have a direction, or their place in the patient is not given.
    """
    if len(sizes) < 3:
        check_grid(sizes, name=name)
    directions = _directions(header, len(sizes), name)
    spatial = _spatial_axes(header, sizes, directions, name)
    affine, notes = _placed(header, directions, spatial, name)
    return affine, spatial, notes


def _directions(header: NrrdHeader, dimension: int, name: str) -> list[NDArray[np.float64] | None]:
    """Per axis its step through space, or None where it has none."""
    if "spacedirections" not in header.fields:
        raise VolumeError(f"{name}: has no 'space directions', so the voxels have no place in the patient; add it to the header{_LABEL}")
    text = header.fields["spacedirections"]
    directions = [_vector(found[2]) for found in _VECTOR.finditer(text)]
    if _VECTOR.sub("", text).strip() or len(directions) != dimension:
        raise VolumeError(f"{name}: 'space directions' must have a vector or 'none' for each of {dimension} axes, got {text!r}")
    return directions


def _vector(text: str | None) -> NDArray[np.float64] | None:
    """Of the text between brackets; None without it, or if all of it is NaN."""
    if text is None:
        return None
    try:
        vector = np.array([float(word) for word in text.split(",")])
    except ValueError:
        vector = np.empty(0)  # of no length that is allowed
    return None if vector.size and np.isnan(vector).all() else vector


def _spatial_axes(
    header: NrrdHeader, sizes: tuple[int, ...], directions: list[NDArray[np.float64] | None], name: str
) -> tuple[int, int, int]:
    """The three axes that run through the patient, fastest first; at most one other may be longer than 1."""
    kinds = header.fields.get("kinds", " ".join(["???"] * len(sizes))).lower().split()
    if len(kinds) != len(sizes):
        raise VolumeError(f"{name}: 'kinds' has {len(kinds)} words for {len(sizes)} axes; correct the header")
    spatial = [axis for axis, vector in enumerate(directions) if vector is not None and (vector.size != 4 or vector[:3].any())]
    others = [axis for axis in range(len(sizes)) if axis not in spatial]
    for axes, allowed in ((spatial, _SPATIAL_KINDS), (others, _CHANNEL_KINDS)):
        for axis in axes:
            if kinds[axis] not in allowed:
                raise VolumeError(
                    f"{name}: axis {axis + 1} is of kind {kinds[axis]!r}, which is no axis of grey values; allowed: {', '.join(allowed)}"
                )
    if len(spatial) != 3:
        without = "".join(f"; axis {axis + 1} (of {sizes[axis]}) has none, so its voxels have no size in mm" for axis in others[:1])
        raise VolumeError(
            f"{name}: has {len(spatial)} axes with a direction, a volume has three (of {len(sizes)} axes {sizes}){without}; "
            "correct 'space directions'"
        )
    if sum(sizes[axis] > 1 for axis in others) > 1:
        raise VolumeError(f"{name}: has {len(sizes)} axes {sizes}, at most one beyond the three in space may be longer than 1; split it")
    return spatial[0], spatial[1], spatial[2]


def _placed(
    header: NrrdHeader, directions: list[NDArray[np.float64] | None], spatial: tuple[int, int, int], name: str
) -> tuple[Affine, tuple[str, ...]]:
    """The affine (zyx voxel -> xyz LPS mm), and notes."""
    fields = header.fields
    space = fields.get("space", "").lower()
    signs = _TO_LPS.get(_WITH_TIME.get(space, space))
    if signs is None:
        raise VolumeError(
            f"{name}: space is {fields.get('space')!r}, so which way is left, front and up is unknown; "
            f"allowed: {', '.join(list(_TO_LPS)[::2])}; correct the header{_LABEL}"
        )
    origin = _vector(fields.get("spaceorigin", "nan").removeprefix("(").removesuffix(")"))
    if origin is None:
        raise VolumeError(f"{name}: has no 'space origin', so the voxels have no place in the patient; add it to the header{_LABEL}")
    dimension = 4 if space in _WITH_TIME else 3
    vectors = [vector for vector in (origin, *(directions[axis] for axis in spatial)) if vector is not None and vector.size == dimension]
    if (
        len(vectors) != 4
        or any(vector[3:].any() for vector in vectors[1:])
        or fields.get("spacedimension", str(dimension)) != str(dimension)
    ):
        raise VolumeError(
            f"{name}: space {space!r} has {dimension} dimensions; the header has another 'space dimension', or 'space origin' "
            f"{fields['spaceorigin']!r} or 'space directions' {fields['spacedirections']!r} do not fit it; correct the header"
        )
    xyz = np.array([vector[:3] for vector in vectors]) * signs
    with geometry_of(name):
        affine = affine_from_itk(xyz[0].tolist(), (1.0, 1.0, 1.0), xyz[1:].T.ravel().tolist())
    _check_spacings(fields, spatial, np.linalg.norm(xyz[1:], axis=1), name)
    affine, notes = affine_in_mm(affine, _units(fields, spatial), name=name)
    if header.unknown:
        notes += (f"header fields that NRRD does not have are ignored: {', '.join(header.unknown[:5])}",)
    if any(word.lower() != "nan" for key in ("axismins", "axismaxs") for word in fields.get(key, "").split()):
        notes += ("axis mins and maxs are ignored: space origin and space directions place the voxels",)
    return affine, notes


def _check_spacings(fields: dict[str, str], spatial: tuple[int, int, int], lengths: NDArray[np.float64], name: str) -> None:
    """Refuse spacings, which the format does not allow beside directions, if they say something else."""
    words = dict(enumerate(fields.get("spacings", "").split()))
    for axis, length in zip(spatial, lengths, strict=True):
        try:
            spacing = float(words.get(axis, "nan"))
        except ValueError:
            spacing = 0.0
        if not np.isnan(spacing) and abs(abs(spacing) - length) > 1e-3 * length:
            raise VolumeError(
                f"{name}: the header contradicts itself: axis {axis + 1} has the spacing {words[axis]}, and a step of {length:g} by "
                "'space directions'; leave the right one"
            )


def _units(fields: dict[str, str], spatial: tuple[int, int, int]) -> set[str]:
    """Of the axes of space; empty if they are not given."""
    in_space, of_axes = ([found[0] or found[1] for found in _QUOTED.findall(fields.get(key, ""))] for key in ("spaceunits", "units"))
    return {*in_space[:3], *(of_axes[axis] for axis in spatial if axis < len(of_axes))} - {"", "none", "???"}
