"""The same sample by other means: SciPy on the CPU, and cupyx, torch and MONAI on the card, those that are installed.

Each includes what a training loop would pay: the volume goes up, the patch and its labels come back. Noise, window and labels are done
where the library can; MONAI's transform is its affine alone, which flatters it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import workload
from numpy.typing import NDArray

Run = Callable[[int], Any]


def peers(
    image: NDArray[np.int16], label: NDArray[np.uint8], draws: list[workload.Draw], patch: tuple[int, ...]
) -> Iterator[tuple[str, Run]]:
    """(name, run) of each peer; run(k) makes one sample from draw k and returns when it lies in host memory."""
    rng = np.random.default_rng(0)
    as_float = image.astype(np.float32)
    if patch == workload.PATCH_SHAPE:
        yield "SciPy, 1 thread", lambda k: workload.scipy_sample(as_float, label, draws[k % len(draws)], rng)
    for make in (_cupyx, _torch, _monai):
        try:
            peer = make(image, label, draws, patch)
        except ImportError:
            continue
        if peer is not None:
            yield peer


def _cupyx(image: NDArray[Any], label: NDArray[Any], draws: list[workload.Draw], patch: tuple[int, ...]) -> tuple[str, Run] | None:
    import cupy
    from cupyx.scipy import ndimage

    if not cupy.cuda.is_available():
        return None
    low, high = workload.WINDOW

    def run(k: int) -> tuple[Any, Any]:
        draw = draws[k % len(draws)]
        matrix, offset = cupy.asarray(draw.affine[:, :3], cupy.float64), draw.affine[:, 3].astype(np.float64).tolist()
        volume = cupy.asarray(image).astype(cupy.float32)
        warped = ndimage.affine_transform(volume, matrix, offset, patch, cupy.float32, 1, "grid-constant", workload.FILL, prefilter=False)
        ids = ndimage.affine_transform(cupy.asarray(label), matrix, offset, patch, cupy.uint8, 0, "constant", 0, prefilter=False)
        warped += cupy.random.standard_normal(patch, cupy.float32) * np.float32(draw.noise_std)
        warped = (cupy.clip(warped, low, high) - low) / (high - low)
        return cupy.asnumpy(warped), cupy.asnumpy(ids)

    return "cupyx.scipy.ndimage on the card", run


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


def _torch(image: NDArray[Any], label: NDArray[Any], draws: list[workload.Draw], patch: tuple[int, ...]) -> tuple[str, Run] | None:
    import torch
    from torch.nn import functional

    if not torch.cuda.is_available():
        return None
    low, high = workload.WINDOW
    matrices = [torch.from_numpy(_sampling_grid(draw, image.shape, patch)[None]) for draw in draws]

    def run(k: int) -> tuple[Any, Any]:
        draw = draws[k % len(draws)]
        volume = torch.from_numpy(image).cuda()[None, None].float()
        grid = functional.affine_grid(matrices[k % len(draws)].cuda(), [1, 1, *patch], align_corners=True)
        warped = functional.grid_sample(volume, grid, mode="bilinear", align_corners=True)
        ids = functional.grid_sample(torch.from_numpy(label).cuda()[None, None].float(), grid, mode="nearest", align_corners=True)
        warped = warped + torch.randn_like(warped) * draw.noise_std
        warped = ((warped - low) / (high - low)).clamp(0, 1)
        return warped.cpu(), ids.to(torch.uint8).cpu()

    return "torch grid_sample on the card", run


def _monai(image: NDArray[Any], label: NDArray[Any], draws: list[workload.Draw], patch: tuple[int, ...]) -> tuple[str, Run] | None:
    import torch
    from monai.transforms import Affine

    if not torch.cuda.is_available():
        return None

    def run(k: int) -> tuple[Any, Any]:
        matrix = np.vstack([draws[k % len(draws)].affine.astype(np.float64), [0, 0, 0, 1]])
        results = []
        for voxels, mode in ((image, "bilinear"), (label, "nearest")):
            moved = Affine(affine=matrix, spatial_size=patch, mode=mode, padding_mode="zeros", device=torch.device("cuda"), image_only=True)
            results.append(torch.as_tensor(moved(torch.from_numpy(voxels).cuda()[None].float())).cpu())
        return results[0], results[1]

    return "MONAI Affine on the card", run
