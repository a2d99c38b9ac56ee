"""One patch under several seeds as a sheet: what `augserver preview` writes and what the page shows, from the same function.

untouched     the place that the first seed chose, without any augmentation, in the middle of the window's ranges
seed N ...    sample `index` of each seed: what `server.sample(recipe, index=..., seed=..., patch=...)` gives
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from augclient import Recipe
from numpy.typing import NDArray

from augserver.augment.sample import SampleParams
from augserver.errors import RequestError
from augserver.web.patches import Patch, PatchMaker, first_index
from augserver.web.png import encode_png
from augserver.web.sheet import Box, Column, Plane, choose_planes, cut_planes, draw_sheet

MAX_COUNT = 8
_VIEW_PIXELS = 256  # of a patch's longest side: six columns fit a wide screen
_SHOWN_PERCENT = (0.5, 99.5)  # of the untouched patch, from black to white where the recipe has no window


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetRequest:
    """What a sheet shows.

    Attributes:
        recipe: of the samples.
        volume: its id.
        patch: (Z, Y, X) in voxels.
        seed: the first of `count` seeds, which follow each other.
    """

    recipe: Recipe
    volume: str
    patch: tuple[int, ...]
    seed: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownColumn:
    """One column of a drawn sheet; `seed` and `index` are None for the untouched one."""

    title: str
    captions: tuple[str, ...]
    seed: int | None
    index: int | None
    views: tuple[Box, Box, Box]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnSheet:
    """A sheet as a PNG file, and what it shows; `planes` are those that are cut, along z, y, x."""

    png: bytes
    columns: tuple[ShownColumn, ...]
    planes: tuple[int, ...]


def draw_seeds(maker: PatchMaker, request: SheetRequest) -> DrawnSheet:
    """Draw the sheet of a request; one patch is in memory at a time.

    Raises:
        NotFoundError: no such volume.
        RequestError, RecipeError, PatchError: as a server would refuse the stream, or a count outside 1 to 8.
        VolumeError, UnavailableError: the volume cannot be read.
    """
    maker.dataset.info(request.volume)
    if not 1 <= request.count <= MAX_COUNT:
        raise RequestError(f"count: got {request.count}; allowed: 1 to {MAX_COUNT} seeds on a sheet")
    plain = request.recipe.without_augmentation()  # every parameter has its own random word, so the place stays that of the seed
    titles: list[tuple[str, tuple[str, ...], int | None, int | None]] = []
    columns: list[Column] = []
    planes: list[int] = []
    low, high, zoom, spacing_mm = 0.0, 1.0, 1.0, (1.0, 1.0, 1.0)
    for number in range(-1, request.count):
        recipe, seed = (plain, request.seed) if number < 0 else (request.recipe, request.seed + number)
        plan = maker.plan(recipe, request.patch, seed)
        index = first_index(plan, request.volume)
        patch = maker.make(recipe, plan, index)
        if number < 0:
            planes, spacing_mm = _middle_planes(plan.patch, patch.label), patch.spacing_mm
            low, high = (0.0, 1.0) if patch.params.window else shown_range(patch.image[0])
            zoom = _VIEW_PIXELS / max(n * mm for n, mm in zip(plan.patch, spacing_mm, strict=True))
        title, captions = _describe(patch, request.recipe, maker.dataset.modality, None if number < 0 else (seed, index))
        titles.append((title, captions, *((None, None) if number < 0 else (seed, index))))
        columns.append(Column(title=title, captions=captions, planes=_shown(cut_planes(patch.image[0], patch.label, planes), low, high)))
    sheet = draw_sheet(columns, maker.dataset.classes, _heading(request, spacing_mm), zoom=[mm * zoom for mm in spacing_mm])
    return DrawnSheet(
        png=encode_png(np.asarray(sheet.picture)),
        columns=tuple(
            ShownColumn(title=title, captions=captions, seed=seed, index=index, views=views)
            for (title, captions, seed, index), views in zip(titles, sheet.views, strict=True)
        ),
        planes=tuple(planes),
    )


def shown_range(voxels: NDArray[Any]) -> tuple[float, float]:
    """The values to show as black and as white, where nothing says so: low < high."""
    step = max(1, round((voxels.size / 200_000) ** (1 / 3)))  # as many are enough, and take 2 ms
    low, high = np.percentile(voxels[::step, ::step, ::step], _SHOWN_PERCENT).tolist()
    return low, high if high > low else low + 1.0


def _middle_planes(shape: Sequence[int], label: NDArray[np.uint8] | None) -> list[int]:
    """Planes of the middle half: reflected, shifted or turned, the patch has something there as well."""
    middle = tuple(slice(n // 4, n - n // 4) for n in shape)
    chosen = choose_planes([part.stop - part.start for part in middle], None if label is None else label[middle])
    return [part.start + plane for part, plane in zip(middle, chosen, strict=True)]


def _shown(planes: tuple[Plane, Plane, Plane], low: float, high: float) -> tuple[Plane, Plane, Plane]:
    z, y, x = (Plane((plane.grey - low) / (high - low), plane.label) for plane in planes)
    return z, y, x


def _describe(patch: Patch, recipe: Recipe, modality: str, address: tuple[int, int] | None) -> tuple[str, tuple[str, ...]]:
    """Title and captions; as many captions for every seed, so that views stay where they are while a recipe changes."""
    params, proto = patch.params, recipe.proto
    unit = " HU" if modality == "ct" else ""
    captions = []
    if params.window:
        digits = ".0f" if unit else ".4g"
        captions.append(f"window {params.window[0]:{digits}} to {params.window[1]:{digits}}{unit}")
    if address is None:
        return "untouched", tuple(captions)
    if any(proto.HasField(name) for name in ("contrast", "brightness", "gamma")):
        captions.append(_describe_intensity(params, unit))
    if proto.HasField("noise"):
        captions.append(f"noise {params.noise_std:.2g}{unit}")
    if proto.HasField("occlude"):
        slab = params.occlusion
        captions.append(f"planes {slab[0]} to {slab[1] - 1} occluded" if slab else "nothing occluded")
    seed, index = address
    mirrored = ", mirrored" if np.linalg.det(params.affine[:, :3].astype(np.float64)) < 0 else ""
    return f"seed {seed}, sample {index}{mirrored}", tuple(captions)


def _describe_intensity(params: SampleParams, unit: str) -> str:
    parts = []
    if params.contrast != 1.0:
        parts.append(f"contrast {params.contrast:.2f}")
    if params.brightness:
        parts.append(f"{params.brightness:+.3g}{unit}")
    if params.gamma != 1.0:
        parts.append(f"gamma {params.gamma:.2f}")
    return ", ".join(parts) or "intensities as they are"


def _heading(request: SheetRequest, spacing_mm: Sequence[float]) -> str:
    size = " x ".join(map(str, request.patch))
    spacing = " x ".join(f"{mm:.3g}" for mm in (spacing_mm[:1] if len(set(spacing_mm)) == 1 else spacing_mm))
    last = request.seed + request.count - 1
    seeds = f"seed {last}" if request.count == 1 else f"seeds {request.seed} to {last}"
    return f"{request.volume}, {size} voxels of {spacing} mm, {seeds}"
