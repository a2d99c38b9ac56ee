"""A dataset remembers the grid of each scan's file, however it was turned, straightened and resampled."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from augserver.errors import StoreError
from augserver.ingest import IngestConfig, find_sources, ingest_scans
from augserver.store import Dataset, DatasetWriter, layout
from augserver.store.records import read_record

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_ZYX = np.eye(4)[[2, 1, 0, 3]]


def oblique(angle_deg: float) -> np.ndarray:
    """x to the Right, y to Inferior, z to Anterior, then turned about z: no axis in its canonical place."""
    angle = np.radians(angle_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.array([[-0.7, 0, 0], [0, 0, 2.5], [0, -1.1, 0]])
    matrix[:3, 3] = [13.0, -70.0, 911.0]
    return matrix


@pytest.mark.parametrize("shear", [0.0, 0.2])
def test_the_grid_of_a_nifti_is_that_of_its_header(tmp_path: Path, shear: float) -> None:
    matrix = oblique(17.0)
    matrix[:3, 2] += shear * matrix[:3, 1]
    voxels = np.random.default_rng(1).integers(-1000, 1000, (11, 7, 5)).astype(np.int16)
    image = nibabel.Nifti1Image(voxels, matrix)
    nibabel.save(image, tmp_path / "scan.nii")
    with DatasetWriter(tmp_path / "ds.zarr", modality="ct") as writer:
        config = IngestConfig(modality="ct", spacing_mm=(3.0, 3.0, 3.0), jobs=1)
        outcomes = list(ingest_scans(find_sources([tmp_path / "scan.nii"]).sources, writer, config))
        assert [outcome.reason for outcome in outcomes] == [""]
        writer.finish()
    info = Dataset.open(tmp_path / "ds.zarr").info("scan")
    assert info.source_shape == (5, 7, 11)
    np.testing.assert_allclose(info.source_affine, _RAS_TO_LPS @ matrix @ _ZYX, rtol=1e-6)
    assert info.shape[1:] != info.source_shape


def test_the_grid_of_an_itk_file_is_that_of_simpleitk(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(np.zeros((5, 7, 11), np.int16))
    image.SetSpacing((0.5, 1.25, 4.0))
    image.SetOrigin((-3.0, 20.0, 7.0))
    image.SetDirection((0, 0, -1, 1, 0, 0, 0, -1, 0))
    SimpleITK.WriteImage(image, str(tmp_path / "scan.mha"))
    with DatasetWriter(tmp_path / "ds.zarr", modality="ct") as writer:
        list(ingest_scans(find_sources([tmp_path / "scan.mha"]).sources, writer, IngestConfig(modality="ct", jobs=1)))
        writer.finish()
    info = Dataset.open(tmp_path / "ds.zarr").info("scan")
    assert info.source_shape == (5, 7, 11)
    for voxel in ((0, 0, 0), (4, 0, 0), (0, 6, 0), (3, 2, 10)):
        place = info.source_affine @ [*voxel, 1]
        np.testing.assert_allclose(place[:3], image.TransformIndexToPhysicalPoint(voxel[::-1]))


def test_a_volume_that_no_scan_was_read_for_has_none(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "ds.zarr", modality="mr") as writer:
        writer.write("made", np.zeros((1, 2, 3, 4), np.int16), None, (1.0, 1.0, 1.0), np.eye(4)[[2, 1, 0, 3]], {})
        writer.finish()
    info = Dataset.open(tmp_path / "ds.zarr").info("made")
    assert (info.source_shape, info.source_affine) == (None, None)


@pytest.mark.parametrize("grid", [{"source_grid": [3, 0, 4]}, {"source_grid": [3, 4]}, {"source_affine": [[1]]}])
def test_a_damaged_grid_is_damage_of_the_volume(tmp_path: Path, grid: dict[str, list[object]]) -> None:
    provenance = {"source_grid": [2, 3, 4], "source_affine": np.eye(4).tolist()}
    with DatasetWriter(tmp_path / "ds.zarr", modality="mr") as writer:
        writer.write("made", np.zeros((1, 2, 3, 4), np.int16), None, (1.0, 1.0, 1.0), np.eye(4)[[2, 1, 0, 3]], provenance)
    folder = tmp_path / "ds.zarr" / "made"
    assert read_record(folder)["provenance"] == provenance
    attributes = layout.read_attributes(folder)
    attributes[layout.NAMESPACE]["provenance"] |= grid
    layout.write_attributes(folder, attributes)
    with pytest.raises(StoreError, match="damaged metadata"):
        read_record(folder)
