"""Real scans, warped by us and by SimpleITK: anisotropic CT, oblique MR."""

from __future__ import annotations

import numpy as np
import pytest

sitk = pytest.importorskip("SimpleITK", reason="the oracle is not here")

SCANS = ["crlm_1004/CRLM-CT-1004_ct_1.6x1.6x5.nii.gz", "niivue_mr_oblique/FLAIR.nii.gz", "elastix_lung/3DCT_lung.mha"]


@pytest.mark.slow
@pytest.mark.parametrize("scan", SCANS)
def test_a_sheared_and_reflected_patch_equals_simpleitk(warp, shared_data, scan):
    read = sitk.ReadImage(str(shared_data / scan))
    array = sitk.GetArrayFromImage(read)
    array = array[0] if array.ndim == 4 else array
    voxels = np.ascontiguousarray(array.astype(np.int16 if array.dtype.kind in "iu" else np.float32))
    label = (np.digitize(voxels, np.quantile(voxels[::4, ::4, ::4], [0.5, 0.8, 0.95]))).astype(np.uint8)
    rng = np.random.default_rng(7)
    patch = tuple(min(n, 60) for n in voxels.shape)
    matrix = (np.eye(3) + rng.normal(0, 0.2, (3, 3))) @ np.diag([1, -1, 1])
    offset = (np.array(voxels.shape) - 1) / 2 - matrix @ ((np.array(patch) - 1) / 2)
    affine = np.hstack([matrix, offset[:, None]]).astype(np.float32)
    low, high = np.quantile(voxels[::4, ::4, ::4], [0.02, 0.98])

    out, ids = warp(voxels, affine, patch, label=label, fill=float(low))

    matrix, offset = affine[:, :3].astype(np.float64), affine[:, 3].astype(np.float64)
    transform = sitk.AffineTransform(matrix[::-1, ::-1].ravel().tolist(), offset[::-1].tolist())
    size = [int(n) for n in patch[::-1]]
    geometry = ((0.0,) * 3, (1.0,) * 3, np.eye(3).ravel().tolist())
    expected = sitk.GetArrayFromImage(
        sitk.Resample(sitk.GetImageFromArray(voxels.astype(np.float64)), size, transform, sitk.sitkLinear, *geometry, float(low))
    )
    resampled_ids = sitk.Resample(sitk.GetImageFromArray(label), size, transform, sitk.sitkNearestNeighbor, *geometry, 0)
    expected_ids = sitk.GetArrayFromImage(resampled_ids)
    # between the outermost voxel centres: beyond them ITK stops, where we blend with the fill
    grid = np.stack(np.meshgrid(*map(np.arange, patch), indexing="ij"), axis=-1) @ matrix.T + offset
    inside = ((grid >= 0) & (grid <= np.array(voxels.shape) - 1)).all(axis=-1)
    assert inside.mean() > 0.4
    assert np.abs(out - expected)[inside].max() < 1e-3 * (high - low)
    assert (ids != expected_ids)[inside].mean() < 2e-5
    assert len(np.unique(ids[inside])) >= 3
