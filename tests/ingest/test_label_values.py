"""Values of label files: which are class ids, which are almost, and what is said of the others, digit by digit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

SHAPE = (5, 7, 11)
AFFINE = np.diag([0.5, 1, 3, 1.0])
IDS = np.random.default_rng(2).integers(0, 4, SHAPE).astype(np.uint8)


@pytest.fixture
def ingest_label(tmp_path: Path, ingest_all: Callable[..., Any]) -> Callable[..., Any]:
    """ingest_label(write, suffix): the outcome, and the label in the order of its file, of a label that `write(path)` writes."""

    def run(write: Callable[[Path], Any], suffix: str = ".nii.gz") -> tuple[Any, np.ndarray | None]:
        (tmp_path / "im").mkdir()
        (tmp_path / "lb").mkdir()
        image = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(image.T, AFFINE), tmp_path / "im/s.nii.gz")
        write(tmp_path / f"lb/s{suffix}")
        [outcome], dataset = ingest_all(tmp_path / "im", labels=str(tmp_path / "lb"))
        return outcome, None if dataset is None else dataset.read("s").label[:, ::-1, ::-1]

    return run


def nifti(voxels: np.ndarray) -> Callable[[Path], None]:
    return lambda path: nibabel.save(nibabel.Nifti1Image(voxels.T, AFFINE, dtype=voxels.dtype), path)


def scaled_nifti(ids: np.ndarray, slope: float) -> Callable[[Path], None]:
    """Ids as int16 that are scaled by a slope, and therefore not whole any more."""

    def write(path: Path) -> None:
        nifti(np.rint(ids / slope).astype(np.int16))(path)
        data = bytearray(path.read_bytes())
        data[112:116] = np.float32(slope).tobytes()  # scl_slope
        path.write_bytes(data)

    return write


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", ">i2", ">f4"])
def test_whole_values_of_every_type_are_taken_without_a_word(ingest_label: Callable[..., Any], dtype: str) -> None:
    outcome, label = ingest_label(nifti(IDS.astype(dtype)))
    assert outcome.reason == ""
    np.testing.assert_array_equal(label, IDS)
    assert not any("rounded" in note for note in outcome.notes)


@pytest.mark.parametrize("most", [3, 9, 40])
def test_label_maps_scaled_to_int16_as_spm_writes_them_are_taken(ingest_label: Callable[..., Any], most: int) -> None:
    ids = np.random.default_rng(1).integers(0, most + 1, SHAPE)
    outcome, label = ingest_label(scaled_nifti(ids, most / 32767), ".nii")
    np.testing.assert_array_equal(label, ids)
    assert any("label values that are almost whole were rounded" in note for note in outcome.notes)


@pytest.mark.parametrize(
    ("values", "ids", "shown"),
    [
        (np.array([0, 0.99999994, 2.0000002], np.float32), [0, 1, 2], "0.99999994, 2.0000002"),
        (np.array([0, 0.9999, 2.0009], np.float64), [0, 1, 2], "0.9999, 2.0009"),
        (np.array([-1e-9, 1, 2], np.float64), [0, 1, 2], "-1e-09"),
        (np.array([1e-20, 1, 255.0004], np.float64), [0, 1, 255], "1e-20, 255.0004"),
        (np.array([-0.0, 1, 2], np.float32), [0, 1, 2], None),
    ],
)  # fmt: skip
def test_almost_whole_values_are_rounded_and_told_with_all_digits(
    ingest_label: Callable[..., Any], values: np.ndarray, ids: list[int], shown: str | None
) -> None:
    places = np.random.default_rng(5).integers(0, 3, SHAPE)
    outcome, label = ingest_label(nifti(values[places]))
    np.testing.assert_array_equal(label, np.array(ids, np.uint8)[places])
    told = [note for note in outcome.notes if "rounded" in note]
    assert told == ([f"label values that are almost whole were rounded: {shown}"] if shown else [])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (np.array([0, 1.0011, 2], np.float64), "1.0011"),
        (np.array([0, 0.5, 1], np.float32), "0.5"),
        (np.array([0, 0.998, 1], np.float32), "0.998"),
        (np.array([0, -1, 1], np.float32), "-1.0"),
        (np.array([0, -0.0011, 1], np.float64), "-0.0011"),
        (np.array([0, 256, 1], np.float32), "256.0"),
        (np.array([0, 255.5, 1], np.float64), "255.5"),
        (np.array([0, 1e30, 1], np.float64), "1e+30"),
        (np.array([0, np.nan, 1], np.float32), "nan"),
        (np.array([np.inf, -np.inf, 1], np.float32), "-inf, inf"),
        (np.array([0, 2**63, 1], np.uint64), "9223372036854775808"),
        (np.array([0, -(2**62) - 1, 256], np.int64), "-4611686018427387905, 256"),
        (np.array([0, 1000000, 1000001], np.int32), "1000000, 1000001"),
        (np.array([0, 0.1234567, 1], np.float32), "0.1234567"),
    ],
)  # fmt: skip
def test_values_that_are_no_ids_are_told_with_all_digits(ingest_label: Callable[..., Any], values: np.ndarray, shown: str) -> None:
    outcome, _ = ingest_label(nifti(values[np.random.default_rng(5).integers(0, 3, SHAPE)]))
    assert f"s.nii.gz: has values that are no class ids: {shown}; allowed: whole numbers 0 to 255; " in outcome.reason


def test_a_one_hot_label_is_refused_with_the_way_out(ingest_label: Callable[..., Any]) -> None:
    outcome, _ = ingest_label(nifti((np.arange(4).reshape(4, 1, 1, 1) == IDS).astype(np.uint8)))
    assert "s.nii.gz: has 4 channels (a fourth axis), a label has one class id per voxel" in outcome.reason
    assert "argmax over the channels" in outcome.reason


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_a_colour_label_is_refused_by_name(ingest_label: Callable[..., Any], suffix: str) -> None:
    colours = sitk.GetImageFromArray(np.stack([IDS * 80] * 3, axis=-1), isVector=True)
    colours.SetSpacing((0.5, 1, 3))
    colours.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    outcome, _ = ingest_label(lambda path: sitk.WriteImage(colours, str(path)), suffix)
    assert outcome.info is None
    assert f"s{suffix}: " in outcome.reason
    assert "colour" in outcome.reason or "one class id per voxel" in outcome.reason
