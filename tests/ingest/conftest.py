"""Scans written by SimpleITK, and ways to ingest them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset as DicomDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from augserver.ingest import IngestConfig, LabelRule, Outcome, find_sources, ingest_scans, select_scans
from augserver.store import Dataset, DatasetWriter


@pytest.fixture
def scan_image() -> Callable[..., sitk.Image]:
    """scan_image(seed, dtype): 5 x 7 x 11 voxels (z, y, x) of noise, anisotropic, away from the origin."""

    def make(seed: int = 0, dtype: Any = np.int16) -> sitk.Image:
        image = sitk.GetImageFromArray(np.random.default_rng(seed).integers(-1000, 2000, (5, 7, 11)).astype(dtype))
        image.SetSpacing((0.5, 1.0, 3.0))
        image.SetOrigin((10.0, -20.0, 30.0))
        return image

    return make


@pytest.fixture
def write_scan(scan_image: Callable[..., sitk.Image]) -> Callable[..., Path]:
    """write_scan(path, image=None, compress=False): the path, folders made."""

    def write(path: Path, image: sitk.Image | None = None, *, compress: bool = False) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(scan_image() if image is None else image, str(path), compress)
        return path

    return write


@pytest.fixture
def ingest_all(tmp_path: Path) -> Callable[..., tuple[list[Outcome], Dataset | None]]:
    """ingest_all(*paths, labels=None, out="out.zarr", **config): outcomes, and the dataset if a volume is in."""

    def run(*paths: Path, labels: str | None = None, out: str = "out.zarr", **config: Any) -> tuple[list[Outcome], Dataset | None]:
        rule = None if labels is None else LabelRule.parse(labels, paths)
        settings = IngestConfig(labels=rule, **config)
        scans = select_scans(find_sources(paths).sources, rule)
        with DatasetWriter(tmp_path / out, modality=settings.modality, preprocessing=settings.preprocessing) as writer:
            outcomes = list(ingest_scans(scans, writer, settings))
            if not any(outcome.info for outcome in outcomes):
                return outcomes, None
            writer.finish()
        return outcomes, Dataset.open(tmp_path / out)

    return run


@pytest.fixture
def unzip(shared_data: Path, tmp_path: Path) -> Callable[[str], Path]:
    """unzip("folder/file.zip"): a fresh folder with the contents of that archive of the shared data."""

    def extract(name: str) -> Path:
        folder = tmp_path / "unzipped" / Path(name).stem
        with zipfile.ZipFile(shared_data / name) as archive:
            archive.extractall(folder)
        return folder

    return extract


@pytest.fixture(scope="session")
def write_series() -> Callable[..., list[Path]]:
    """write_series(folder, voxels, **header): one DICOM file per (Y, X) plane, in the order of the planes; see below for the keywords."""

    def write(
        folder: Path,
        voxels: np.ndarray,
        *,
        step_mm: tuple[float, float, float] = (0.0, 0.0, 3.0),
        orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
        slopes: tuple[float, ...] = (),
        intercepts: tuple[float, ...] = (),
        syntax: str = ExplicitVRLittleEndian,
        modality: str = "CT",
        series: str = "1.2.3.4",
        patient: dict[str, str] | None = None,
        name: str = "slice",
        edit: Callable[[DicomDataset, int], None] = lambda data, index: None,
    ) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for index, plane in enumerate(voxels):
            data = DicomDataset()
            data.file_meta = FileMetaDataset()
            data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            data.SOPClassUID = CTImageStorage
            data.SOPInstanceUID = f"{series}.{index + 1}"
            data.SeriesInstanceUID, data.Modality, data.InstanceNumber = series, modality, index + 1
            for keyword, value in (patient or {}).items():
                setattr(data, keyword, value)
            data.ImageOrientationPatient = list(orientation)
            data.ImagePositionPatient = [round(10.0 + index * step_mm[0], 4), round(-20.0 + index * step_mm[1], 4), 30 + index * step_mm[2]]
            data.PixelSpacing = [1.0, 0.5]
            data.Rows, data.Columns = plane.shape
            data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
            data.BitsAllocated, data.BitsStored, data.HighBit = plane.itemsize * 8, plane.itemsize * 8, plane.itemsize * 8 - 1
            data.PixelRepresentation = int(plane.dtype.kind == "i")
            data.RescaleSlope = slopes[index] if slopes else 1
            data.RescaleIntercept = intercepts[index] if intercepts else 0
            data.PixelData = plane.tobytes()
            edit(data, index)
            if syntax != ExplicitVRLittleEndian:
                data.compress(syntax, generate_instance_uid=False)
            files.append(folder / f"{name}{index:03}.dcm")
            data.save_as(files[-1], enforce_file_format=True)
        return files

    return write
