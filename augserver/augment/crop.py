"""Where the patch is taken: the point of the input volume on which the patch's centre lands.

    center       the middle of the volume, so that A c_out + b = c + d; where the patch is copied voxel by voxel, the whole place below it
    uniform      uniform over all places where the patch, before its transform, lies inside the volume
    valid        uniform over all places where the transformed patch lies inside, so that nothing is filled; the displacement is
                 part of the place. On an axis along which it cannot fit, the patch is centred.
    foreground   a class uniformly among those present, then a voxel of it uniformly; that voxel becomes the patch's centre, moved no
                 further than keeps the patch inside (with crop.pad: not moved). A volume without foreground is cropped as `uniform`.

"Inside" means that the centres of the outermost patch voxels lie within those of the volume: no tap of the interpolation is filled.
While a patch voxel is as large as a volume voxel along an axis, places are whole voxels: an untransformed patch is an exact copy.
No voxel is read here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from augserver.augment.affine import Matrix, Vector
from augserver.augment.random import to_integer
from augserver.augment.rules import CompiledRecipe
from augserver.errors import PatchError
from augserver.volume import VolumeInfo

_TOLERANCE = 1e-6  # voxels; spacings such as 0.1 / 0.3 are not exact


@dataclass(frozen=True, slots=True)
class Room:
    """How far the patch can move along one axis, in input voxels.

    Attributes:
        size: voxels of the volume.
        half: from the patch's centre to the centre of its outermost voxel.
        whole: places are whole voxels.
    """

    size: int
    half: float
    whole: bool

    @property
    def slack(self) -> float:
        """Length of the stretch on which the centre may lie; negative: the patch does not fit."""
        slack = self.size - 1 - 2 * self.half
        return 0.0 if -_TOLERANCE < slack < 0.0 else slack

    def middle(self) -> float:
        """The centre of the volume, rounded down to a whole place."""
        return self.half + self.slack // 2 if self.whole else (self.size - 1) / 2

    def anywhere(self, word: int) -> float:
        """Uniform over the places inside; the middle where the patch does not fit."""
        slack = self.slack
        if slack < 0.0:
            return self.middle()
        return self.half + (to_integer(word, int(slack) + 1) if self.whole else word * 2.0**-64 * slack)

    def around(self, voxel: int, patch: int, pad: bool) -> float:
        """The place that has `voxel` at the patch's middle voxel, moved inside unless `pad`."""
        place = self.half + voxel - patch // 2 if self.whole else float(voxel)
        return place if pad else min(max(place, self.half), self.half + self.slack)


def rooms(shape: Sequence[int], patch: Sequence[int], spacing_in_mm: Vector, spacing_out_mm: Vector) -> list[Room]:
    """Room of the untransformed patch along z, y, x; `shape` is the volume's (Z, Y, X)."""
    ratios = [s_out / s_in for s_out, s_in in zip(spacing_out_mm, spacing_in_mm, strict=True)]
    return [Room(n, (p - 1) / 2 * r, r == 1.0) for n, p, r in zip(shape, patch, ratios, strict=True)]


def rooms_transformed(shape: Sequence[int], patch: Sequence[int], matrix: Matrix) -> list[Room]:
    """Room of the bounding box that A, in voxels, makes of the patch."""
    halves = [(p - 1) / 2 for p in patch]
    boxes = [sum(abs(a) * h for a, h in zip(row, halves, strict=True)) for row in matrix]
    return [Room(n, box, whole) for n, box, whole in zip(shape, boxes, copied_axes(matrix), strict=True)]


def copied_axes(matrix: Matrix) -> list[bool]:
    """Whether A, in voxels, takes each axis to itself voxel by voxel, reflected or not."""
    return [sum(map(abs, row)) == abs(row[axis]) == 1.0 for axis, row in enumerate(matrix)]


def check_patch_fits(info: VolumeInfo, patch: Sequence[int], spacing_out_mm: Vector | None) -> None:
    """Refuse a patch that the untransformed volume cannot give without filling.

    Raises:
        PatchError: names the patch, the volume and the way out.
    """
    shape = info.shape[1:]
    if all(room.slack >= 0.0 for room in rooms(shape, patch, info.spacing_mm, spacing_out_mm or info.spacing_mm)):
        return
    at = ""
    if spacing_out_mm is not None:
        reach = tuple(round((p - 1) * o / i + 1, 1) for p, o, i in zip(patch, spacing_out_mm, info.spacing_mm, strict=True))
        at = f" at {spacing_out_mm} mm reaches over {reach} voxels and"
    raise PatchError(f"patch {tuple(patch)}{at} exceeds volume {info.id!r} {shape} (Z,Y,X); lower the patch or set crop.pad")


def check_reach(info: VolumeInfo, patch: Sequence[int], recipe: CompiledRecipe, limit_voxels: float, limit_step: float) -> None:
    """Refuse a patch that some draw could carry beyond the coordinates a kernel computes with.

    Args:
        limit_voxels: the most that the kernel takes of |A| patch + |b|, its bound on coordinates; |b| adds half of |A| patch.
        limit_step: the most input voxels per output voxel that it takes.
    Raises:
        PatchError: names both and the ways out. By the bounds of the recipe's ranges, so that no draw fails later on.
    """
    stretch, shift_mm = recipe.largest_stretch, recipe.largest_shift_mm
    finest_mm = min(info.spacing_mm)
    step = stretch * max(recipe.spacing_mm or info.spacing_mm) / finest_mm
    reach = max(info.shape[1:]) + shift_mm / finest_mm + 1.5 * step * max(patch)
    if reach > limit_voxels or step > limit_step:
        raise PatchError(
            f"patch {tuple(patch)} under this recipe could reach {reach:.0f} voxels from the origin of volume {info.id!r} in steps of "
            f"{step:.4g}; allowed: {limit_voxels:.0f} in steps of {limit_step:.0f}; lower the patch, affine.scale, affine.translate_mm or "
            "output.spacing_mm"
        )
