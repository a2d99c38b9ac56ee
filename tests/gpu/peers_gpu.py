"""The same sample by other means: SciPy on the CPU, and cupyx, torch and MONAI on the card, those that are installed.

Each includes what a training loop would pay: the volume goes up, the patch and its labels come back. Noise, window and labels are done
where the library can; MONAI's transform is its affine alone, which flatters it. `disagreement` says whether a peer does our work at all
before its time is believed. `device` "cpu" is for tests of this file where there is no card.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import workload
from numpy.typing import NDArray

from augserver.kernel import warp

VALUE_TOLERANCE = 2e-3  # of the window: float32 grids in units of the volume's half size are off by some 1e-5 voxel
MAX_OUTLIERS = 1e-4  # share of voxels beyond it: at a face the same error decides between inside and outside
MAX_OTHER_LABELS = 1e-3  # share of voxels: ties are rounded to even by some


@dataclass(frozen=True)
class Peer:
    """run(k, noise) makes one sample from draw k, without occlusion, and returns (image, label) when both lie in host memory."""

    name: str
    run: Callable[[int, bool], tuple[Any, Any]]
    windowed: bool = True  # else the image is in the volume's own units


def disagreement(peer: Peer, k: int, image: NDArray[Any], label: NDArray[Any], draws: list[workload.Draw], patch: tuple[int, ...]) -> str:
    """What differs between a peer's sample of draw k and ours, beyond the tolerances above; "" where nothing does."""
    low, high = workload.WINDOW
    window = workload.WINDOW if peer.windowed else None
    ours, our_label = warp(image, draws[k].affine, patch, label=label, window=window, fill=workload.FILL, backend="cpu")
    theirs, their_label = (np.asarray(array).reshape(patch) for array in peer.run(k, False))
    scale = 1.0 if peer.windowed else high - low
    outliers = float((np.abs(theirs.astype(np.float64) - ours) > VALUE_TOLERANCE * scale).mean())
    others = float((their_label != our_label).mean())
    if outliers > MAX_OUTLIERS or others > MAX_OTHER_LABELS:
        return f"{outliers:.2%} of values and {others:.2%} of labels differ from ours"
    return ""


def peers(
    image: NDArray[np.int16], label: NDArray[np.uint8], draws: list[workload.Draw], patch: tuple[int, ...], device: str = "cuda"
) -> Iterator[Peer]:
    """Those that are installed and have the device; `draws` are used without their occlusion."""
    draws = [replace(draw, occlusion=None) for draw in draws]
    if patch == workload.PATCH_SHAPE:
        rng = np.random.default_rng(0)
        as_float = image.astype(np.float32)
        yield Peer(
            "SciPy, 1 thread", lambda k, noise: workload.scipy_sample(as_float, label, draws[k % len(draws)], rng if noise else None)
        )
    for make in (_cupyx, _torch, _monai):
        try:
            peer = make(image, label, draws, patch, device)
        except ImportError:
            continue
        if peer is not None:
            yield peer


def _cupyx(image: NDArray[Any], label: NDArray[Any], draws: list[workload.Draw], patch: tuple[int, ...], device: str) -> Peer | None:
    import cupy
    from cupyx.scipy import ndimage

    if device != "cuda" or not cupy.cuda.is_available():
        return None
    low, high = workload.WINDOW

    def run(k: int, noise: bool) -> tuple[Any, Any]:
        draw = draws[k % len(draws)]
        matrix, offset = cupy.asarray(draw.affine[:, :3], cupy.float64), draw.affine[:, 3].astype(np.float64).tolist()
        volume = cupy.asarray(image).astype(cupy.float32)
        warped = ndimage.affine_transform(volume, matrix, offset, patch, cupy.float32, 1, "grid-constant", workload.FILL, prefilter=False)
        ids = ndimage.affine_transform(cupy.asarray(label), matrix, offset, patch, cupy.uint8, 0, "constant", 0, prefilter=False)
        if noise:
            warped += cupy.random.standard_normal(patch, cupy.float32) * np.float32(draw.noise_std)
        warped = (cupy.clip(warped, low, high) - low) / (high - low)
        return cupy.asnumpy(warped), cupy.asnumpy(ids)

    return Peer("cupyx.scipy.ndimage on the card", run)


def _sampling_grid(draw: workload.Draw, shape: tuple[int, ...], patch: tuple[int, ...]) -> NDArray[np.float32]:
    """Our voxel matrix, as the normalised xyz matrix of torch's affine_grid with align_corners."""

    def to_unit(size: tuple[int, ...]) -> NDArray[np.float64]:
        scale = np.array([max(n - 1, 1) / 2 for n in size])
        matrix = np.diag([*scale, 1.0])
        matrix[:3, 3] = scale
        return matrix

    voxel = np.vstack([draw.affine.astype(np.float64), [0, 0, 0, 1]])
    unit = np.linalg.inv(to_unit(shape)) @ voxel @ to_unit(patch)
    flip = np.array([2, 1, 0])
    return np.hstack([unit[:3, :3][flip][:, flip], unit[:3, 3][flip][:, None]]).astype(np.float32)


def _torch(image: NDArray[Any], label: NDArray[Any], draws: list[workload.Draw], patch: tuple[int, ...], device: str) -> Peer | None:
    import torch
    from torch.nn import functional

    if device == "cuda" and not torch.cuda.is_available():
        return None
    low, high = workload.WINDOW
    matrices = [torch.from_numpy(_sampling_grid(draw, image.shape, patch)[None]) for draw in draws]

    def run(k: int, noise: bool) -> tuple[Any, Any]:
        draw = draws[k % len(draws)]
        volume = torch.from_numpy(image).to(device)[None, None].float()
        grid = functional.affine_grid(matrices[k % len(draws)].to(device), [1, 1, *patch], align_corners=True)
        warped = functional.grid_sample(volume, grid, mode="bilinear", align_corners=True)
        ids = functional.grid_sample(torch.from_numpy(label).to(device)[None, None].float(), grid, mode="nearest", align_corners=True)
        if noise:
            warped = warped + torch.randn_like(warped) * draw.noise_std
        warped = ((warped - low) / (high - low)).clamp(0, 1)
        return warped.cpu(), ids.to(torch.uint8).cpu()

    return Peer("torch grid_sample on the card", run)


def _shift(shape: tuple[int, ...], sign: int) -> NDArray[np.float64]:
    """Translation by half of a grid: from its centre to its first voxel (1), or back (-1)."""
    matrix = np.eye(4)
    matrix[:3, 3] = [sign * (n - 1) / 2 for n in shape]
    return matrix


def _monai(image: NDArray[Any], label: NDArray[Any], draws: list[workload.Draw], patch: tuple[int, ...], device: str) -> Peer | None:
    import torch
    from monai.transforms import Affine

    if device == "cuda" and not torch.cuda.is_available():
        return None

    def run(k: int, noise: bool) -> tuple[Any, Any]:
        # MONAI counts voxels from the centres of patch and volume.
        matrix = _shift(image.shape, -1) @ np.vstack([draws[k % len(draws)].affine.astype(np.float64), [0, 0, 0, 1]]) @ _shift(patch, 1)
        results = []
        for voxels, mode in ((image, "bilinear"), (label, "nearest")):
            moved = Affine(affine=matrix, spatial_size=patch, mode=mode, padding_mode="zeros", device=torch.device(device), image_only=True)
            results.append(torch.as_tensor(moved(torch.from_numpy(voxels).to(device)[None].float())).cpu())
        return results[0], results[1].to(torch.uint8)

    return Peer("MONAI Affine on the card, without noise and window", run, windowed=False)
