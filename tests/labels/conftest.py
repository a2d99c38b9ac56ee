"""Real scans as arrays in canonical order, and Dice."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ct:
    """A scan's voxels (Z, Y, X) and zyx spacing."""

    hu: NDArray[Any]
    spacing_mm: tuple[float, float, float]


@pytest.fixture(scope="session")
def read(shared_data: Path) -> Callable[[str], Ct]:
    """read("cip_chest64/ct-64.nrrd"): a scan or a label of the shared data, axes to Superior, Posterior, Left."""

    def load(name: str) -> Ct:
        return oriented(SimpleITK.ReadImage(str(shared_data / name)))

    return load


def oriented(image: SimpleITK.Image) -> Ct:
    image = SimpleITK.DICOMOrient(image, "LPS")
    sx, sy, sz = image.GetSpacing()
    return Ct(SimpleITK.GetArrayFromImage(image), (sz, sy, sx))


@pytest.fixture(scope="session")
def read_series(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Ct]:
    """read_series("totalseg/example_ct_dicom.zip"): as `read`, the DICOM series of an archive."""

    def load(name: str) -> Ct:
        folder = tmp_path_factory.mktemp("series")
        with zipfile.ZipFile(shared_data / name) as archive:
            archive.extractall(folder)
        slices = next(file for file in folder.rglob("*") if file.is_file()).parent
        return oriented(SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(slices))))

    return load


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return 2.0 * float((a & b).sum()) / float(a.sum() + b.sum())


@pytest.fixture(scope="session")
def overlap() -> Callable[[Any, Any], float]:
    """The Dice coefficient of two masks."""
    return dice
