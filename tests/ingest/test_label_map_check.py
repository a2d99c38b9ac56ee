"""A label map that was named as a scan is told from scans, real ones and toys."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from augserver.ingest.label_map_check import looks_like_a_label_map
from augserver.ingest.readers.formats import read_file, split_suffix

IMAGES = (
    "cip_chest64/ct-64.nrrd",
    "niivue_mr_oblique/FLAIR.nii.gz",  # 8 bits, a third of it 0
    "elastix_lung/3DCT_lung_baseline_small.mha",
    "totalseg/example_mr_sm.nii.gz",
    "ibsi_sts/STS_003_CT_image.nii.gz",
)
LABELS = (
    "cip_chest64/lm-64.nrrd",  # ids up to 2000
    "niivue_mr_oblique/lesion.nii.gz",
    "elastix_lung/3DCT_lung_baseline_mask.mha",
    "totalseg/example_seg.nii.gz",
    "ibsi_sts/STS_003_MR_T1_mask.nii.gz",
)


@pytest.mark.parametrize("name", IMAGES)
def test_real_scans_do_not_look_like_label_maps_whatever_they_are_called(shared_data: Path, name: str) -> None:
    voxels = read_file(shared_data / name).voxels[0]
    assert looks_like_a_label_map(voxels, "case_seg") == ""
    assert looks_like_a_label_map(voxels[::3, ::3, ::3], "label") == ""


@pytest.mark.parametrize("name", LABELS)
def test_real_label_maps_do_whatever_they_are_called(shared_data: Path, name: str) -> None:
    voxels = read_file(shared_data / name).voxels[0]
    for kind in (voxels.dtype, np.float32, np.int64):
        assert "areas of one value" in looks_like_a_label_map(voxels.astype(kind), "case")
    assert "and its name says so" in looks_like_a_label_map(voxels, f"{split_suffix(Path(name))[0]}_seg")


def _blobs(ids: list[float], dtype: type) -> np.ndarray:
    smooth = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(20, 40, 50)), 4)
    return np.array(ids, dtype)[np.digitize(smooth, np.quantile(smooth, np.linspace(0, 1, len(ids) + 1)[1:-1]))]


@pytest.mark.parametrize(
    ("ids", "dtype"),
    [([0, 1], np.uint8), ([0, 255], np.uint8), ([0, 1, 2, 3], np.int16), ([0, 0.99999994, 2.0000002], np.float32),
     ([0, 1, -1], np.int16), ([0, 14175, 2, 40000], np.int32)],
)  # fmt: skip
def test_blobs_of_ids_look_like_a_label_map(ids: list[float], dtype: type) -> None:
    assert f"only {len(ids)} whole values" in looks_like_a_label_map(_blobs(ids, dtype), "a")


def test_thin_structures_are_known_by_the_name() -> None:
    voxels = np.zeros((5, 9, 11), np.uint8)
    voxels[:, ::2, ::2] = 1
    voxels[:, 4, 5] = 2
    assert looks_like_a_label_map(voxels, "labels-1")


@pytest.mark.parametrize("stem", ["a_seg", "label", "Segmentation-label"])
@pytest.mark.parametrize("case", ["constant", "phantom in HU", "noise", "soft", "nan", "empty"])
def test_what_holds_other_values_does_not(stem: str, case: str) -> None:
    voxels = {
        "constant": np.full((5, 7, 11), 40, np.int16),
        "phantom in HU": _blobs([-1000, 0, 400], np.int16),
        "noise": np.random.default_rng(0).integers(0, 255, (5, 40, 40)).astype(np.uint8),
        "soft": _blobs([0, 0.02, 0.9], np.float32),
        "nan": _blobs([0, np.nan, 1], np.float32),
        "empty": np.zeros((5, 7, 11), np.uint8),
    }[case]
    assert looks_like_a_label_map(voxels, stem) == ""


def test_many_organs_look_like_a_label_map_and_a_smooth_image_of_as_many_greys_does_not() -> None:
    organs = np.kron(np.arange(480).reshape(4, 10, 12) % 118, np.ones((3, 8, 8))).astype(np.uint8)
    assert "only 118 whole values" in looks_like_a_label_map(organs, "a")
    assert looks_like_a_label_map(_blobs(list(range(118)), np.uint8), "a_seg") == ""
