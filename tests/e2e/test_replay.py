"""What a batch says of itself is enough to compute it again: SciPy and the returned provenance give the same image and label.

On real scans: isotropic CT with a label map, anisotropic CT, oblique MR. The tolerance is 1e-3 of the window; labels may
differ where a position lies within rounding of the middle between two voxels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from augclient import Recipe, connect
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from augserver.store import DatasetWriter

CT = {
    "thorax": ("totalseg/example_ct_sm.nii.gz", "totalseg/example_seg.nii.gz"),
    "anisotropic": ("innereye/scan_small.nii.gz", None),
    "sarcoma": ("ibsi_sts/STS_003_CT_image.nii.gz", "ibsi_sts/STS_003_CT_mask.nii.gz"),
}
MR = {
    "brain": ("niivue_mr_oblique/FLAIR.nii.gz", "niivue_mr_oblique/lesion.nii.gz"),
    "coarse": ("niivue_mr_oblique/mha.mha", None),
}
WINDOWS = {"ct": {"low": [-1000, -100], "high": [200, 1500]}, "mr": {"low": [0, 20], "high": [150, 250]}}


def write_scan(writer: DatasetWriter, name: str, image_path: Path, label_path: Path | None) -> None:
    """A scan as SimpleITK reads it, world geometry kept."""
    scan = sitk.ReadImage(str(image_path))
    spacing = np.array(scan.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3] = (np.array(scan.GetDirection()).reshape(3, 3) * spacing)[:, ::-1]
    affine[:3, 3] = scan.GetOrigin()
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(label_path))).astype(np.uint8) if label_path else None
    writer.write(name, sitk.GetArrayFromImage(scan)[None], label, tuple(spacing[::-1]), affine, {})


@pytest.fixture(scope="module", params=["ct", "mr"])
def server(request: pytest.FixtureRequest, shared_data: Path, serve: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("real") / f"{request.param}.zarr"
    with DatasetWriter(path, modality=request.param) as writer:
        for name, (image, label) in (CT if request.param == "ct" else MR).items():
            write_scan(writer, name, shared_data / image, shared_data / label if label else None)
        writer.finish()
    with connect(serve(path).address) as connection:
        yield connection, request.param


def replay(volume: Any, sample: Any, patch: tuple[int, int, int]) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Image in [0, 1] and label, from float64 positions and SciPy alone."""
    grid = np.stack(np.meshgrid(*map(np.arange, patch), indexing="ij")).reshape(3, -1).astype(np.float64)
    affine = np.asarray(sample.affine, np.float64).reshape(3, 4)
    positions = affine[:, :3] @ grid + affine[:, 3:]
    values = map_coordinates(volume.image[0].astype(np.float64), positions, order=1, mode="grid-constant", cval=sample.fill)
    label = np.zeros(values.shape, np.uint8)
    if volume.label is not None:
        nearest = np.floor(positions + 0.5).astype(np.int64)
        inside = ((nearest >= 0) & (nearest < np.array(volume.label.shape)[:, None])).all(0)
        label[inside] = volume.label[tuple(nearest[:, inside])]
    values, label = values.reshape(patch), label.reshape(patch)
    if sample.occlusion is not None:
        z0, z1 = sample.occlusion
        values[z0:z1] = sample.fill
        label[z0:z1] = 0
    low, high = sample.window
    return np.clip((values - low) / (high - low), 0, 1), label


@pytest.mark.slow
def test_an_augmented_sample_is_what_scipy_makes_of_its_provenance(server: Any) -> None:
    connection, modality = server
    recipe = Recipe(
        crop={"mode": "uniform", "pad": True},
        affine={"rotate_deg": 25, "scale": [0.7, 1.4], "shear": 0.15, "warp": 0.05, "reflect": 0.5, "translate_mm": 20},
        occlude={"max_voxels": 10, "probability": 0.5},
        window=WINDOWS[modality],
    )
    patch = (40, 72, 88)
    volumes = {id_: connection.volume(id_) for id_ in connection.dataset().volumes}
    seen, occluded, ties, voxels = set(), 0, 0, 0
    with connection.stream(recipe, patch=patch, batch_size=3, seed=2, steps=3) as stream:
        for batch in stream:
            for k, sample in enumerate(batch.samples):
                image, label = replay(volumes[sample.volume], sample, patch)
                assert np.abs(batch.image[k, 0] - image).max() < 1e-3, sample
                assert image.std() > 0.01  # there is something to see
                if batch.label is not None:
                    ties += int((batch.label[k] != label).sum())
                    voxels += label.size
                seen.add(sample.volume)
                occluded += sample.occlusion is not None
    assert seen == set(volumes)
    assert occluded > 0
    assert ties < 2e-5 * voxels


def test_the_identity_gives_the_middle_of_the_volume_as_ingested(server: Any) -> None:
    connection, _ = server
    steps = []
    with connection.stream(Recipe(), patch=(11, 30, 31), batch_size=1, steps=3) as stream:
        for batch in stream:
            steps.append(batch.step)
            [sample] = batch.samples
            volume = connection.volume(sample.volume)
            # an odd size in an even volume has its centre between two voxels: the provenance says where
            image = map_coordinates(
                volume.image[0].astype(np.float64),
                np.stack(np.meshgrid(*map(np.arange, (11, 30, 31)), indexing="ij")) + np.asarray(sample.affine)[:, 3].reshape(3, 1, 1, 1),
                order=1,
            )
            assert np.array_equal(np.asarray(sample.affine)[:, :3], np.eye(3))
            centre = np.asarray(sample.affine)[:, 3] + (np.array((11, 30, 31)) - 1) / 2
            assert np.abs(centre - (np.array(volume.image.shape[1:]) - 1) / 2).max() <= 0.5
            assert np.abs(batch.image[0, 0] - image).max() < 1e-2
    assert steps == [0, 1, 2]
