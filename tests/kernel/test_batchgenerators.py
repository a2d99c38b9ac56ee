"""Sampling of image and label against SpatialTransform of batchgeneratorsv2 0.3.6, nnU-Net's, given the same map.

Its labels are the arg-max of scores in float16 out of 1000, whose steps are 0.5 around 500: where the largest two of our exact scores
are nearer than that, its label is a matter of rounding, and may be another than ours. Elsewhere none may differ.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from augserver.augment.sample import SampleParams
from augserver.kernel import Backend

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install --group test")
spatial = pytest.importorskip("batchgeneratorsv2.transforms.spatial.spatial", reason="not installed: pip install --group test")

SHAPE, PATCH = (40, 52, 61), (33, 38, 45)
STEP = 1.5e-3  # of float16 below 1000, as a share, and of two scores that are rounded
OUTSIDE = 255  # stands for its -1


def angles(image: Any, dim: int) -> float:
    return (0.4, -0.3, 0.5)[dim]


def scales(image: Any, dim: int) -> float:
    return (1.2, 0.8, 1.05)[dim]


def its_transform(**kind: Any) -> Any:
    """Rotation and scale by `angles` and `scales`, about the middle."""
    return spatial.SpatialTransform(
        PATCH, 0, random_crop=False, p_rotation=1, rotation=angles, p_scaling=1, scaling=scales, p_synchronize_scaling_across_axes=0, **kind
    )


def its_map(parameters: dict[str, Any]) -> np.ndarray:
    """The same map as our affine."""
    matrix = parameters["affine"]
    offset = (np.array(SHAPE) - 1) / 2 - matrix @ ((np.array(PATCH) - 1) / 2)
    return np.hstack([matrix, offset[:, None]]).astype(np.float32)


def lumps(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.normal(size=SHAPE), 2.0) for _ in range(count)]
    return np.argmax(fields, axis=0).astype(np.uint8)


def margin(label: np.ndarray, affine: np.ndarray, mode: str) -> np.ndarray:
    """float64: the largest score less the second one, by SciPy; the labels outside count as OUTSIDE."""
    grid = np.stack(np.meshgrid(*map(np.arange, PATCH), indexing="ij")).reshape(3, -1)
    at = affine[:, :3].astype(np.float64) @ grid + affine[:, 3:].astype(np.float64)
    best, second = np.zeros(at.shape[1]), np.zeros(at.shape[1])
    for each in {*np.unique(label).tolist(), OUTSIDE}:
        mask = (label == each).astype(np.float64)
        score = ndimage.map_coordinates(mask, at, order=1, mode=mode, cval=float(each == OUTSIDE))
        second = np.maximum(second, np.minimum(best, score))
        best = np.maximum(best, score)
    return (best - second).reshape(PATCH)


def ours(backend: Backend, volume: Any, **params: Any) -> tuple[np.ndarray, np.ndarray]:
    out, ids = backend.allocate((1, volume.image.shape[0], *PATCH), np.float32), backend.allocate((1, *PATCH), np.uint8)
    backend.augment([volume], [SampleParams(**params)], out, ids)
    return out[0], ids[0]


def theirs(transform: Any, volume: Any, parameters: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    image = transform._apply_to_image(torch.from_numpy(volume.image), **parameters).numpy()
    label = transform._apply_to_segmentation(torch.from_numpy(volume.label.astype(np.int16)[None]), **parameters).numpy()[0]
    return image, np.where(label == -1, OUTSIDE, label)


@pytest.mark.parametrize(
    ("border", "kind", "mode"),
    [
        ("fill", {"border_mode_seg": "constant", "padding_value_seg": -1}, "grid-constant"),  # nnU-Net's
        ("edge", {"border_mode_seg": "border", "padding_mode_image": "border"}, "nearest"),
    ],
)
@pytest.mark.parametrize("labels", [2, 7, 57])
def test_linear_labels_and_the_image_are_those_of_batchgenerators(
    labels: int, border: str, kind: dict[str, Any], mode: str, backend: Backend, make_volume: Any
) -> None:
    rng = np.random.default_rng(labels)
    volume = make_volume(rng.normal(size=(2, *SHAPE)).astype(np.float32), lumps(labels, labels))
    transform = its_transform(mode_seg="bilinear", **kind)
    parameters = transform.get_parameters(image=torch.from_numpy(volume.image))
    affine = its_map(parameters)
    expected, expected_ids = theirs(transform, volume, parameters)
    image, ids = ours(backend, volume, affine=affine, label_rule="linear", outside_label=OUTSIDE, border=border)
    assert np.abs(image - expected).max() < 1e-4  # of the standard deviation; 2.5e-5 seen
    differ = ids != expected_ids
    near = margin(volume.label, affine, mode) < STEP
    assert not (differ & ~near).any()
    assert differ.mean() < 2e-4  # none with 2 labels, 5e-5 with 7, 9e-5 with 57 seen
    assert near.mean() < 3e-3
    assert (OUTSIDE in ids) == (border == "fill")
    assert len(np.unique(ids)) >= min(labels, 50)


def test_nearest_labels_are_those_of_batchgenerators(backend: Backend, make_volume: Any) -> None:
    volume = make_volume(np.zeros((1, *SHAPE), np.float32), lumps(7, 1))
    transform = its_transform(mode_seg="nearest", border_mode_seg="constant", padding_value_seg=-1)
    parameters = transform.get_parameters(image=torch.from_numpy(volume.image))
    _, expected = theirs(transform, volume, parameters)
    _, ids = ours(backend, volume, affine=its_map(parameters), outside_label=OUTSIDE)
    assert (ids != expected).mean() < 1e-4  # places half-way between voxels, to within rounding
    assert OUTSIDE in ids


def test_a_tie_is_settled_as_batchgenerators_settles_it(backend: Backend, make_volume: Any) -> None:
    """Half-way between two labels, a little nearer to one of them than float16 can tell."""
    label = np.ascontiguousarray(np.broadcast_to(np.where(np.arange(SHAPE[2]) % 2, 5, 3), SHAPE), np.uint8)
    volume = make_volume(np.zeros((1, *SHAPE), np.float32), label)
    transform = its_transform(mode_seg="bilinear", border_mode_seg="border")
    for shift in (0.4999, 0.5001):
        affine = np.hstack([np.eye(3), [[0], [0], [shift]]]).astype(np.float32)
        at = np.stack(np.meshgrid(*map(np.arange, PATCH), indexing="ij"), axis=-1) + np.array([0, 0, shift])
        grid = torch.from_numpy(((2 * at + 1) / np.array(SHAPE) - 1)[..., ::-1].astype(np.float32).copy())
        _, expected = theirs(transform, volume, {"grid": grid})
        _, ids = ours(backend, volume, affine=affine, label_rule="linear", border="edge")
        assert (ids == expected).all()
        assert set(np.unique(ids)) == {3, 5}
