"""Good files with flipped, cut and overwritten bytes: a VolumeError, or the voxels that the file holds; never a crash or a hang.

What a format can promise, and what is asserted for it:
    gzipped NIfTI                      CRC and length over everything: voxels and geometry are the good file's
    packed NRRD and MetaImage          checksum over the voxels: their bytes are the good file's; the text header has none
    raw NIfTI, NRRD, MetaImage         a length only: as many bytes as promised, each of them as it stands in the file
    DICOM, raw, RLE and JPEG           lengths only, and no end mark for trailing slices: slices of the promised size

AUGSERVER_FUZZ_CASES sets the number of cases per run (1,500 unless given). All 10,000 that a release wants:
    AUGSERVER_FUZZ_CASES=10000 pytest tests/ingest/test_fuzzing.py
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from augserver.errors import VolumeError
from augserver.ingest.intake import canonical_scan
from augserver.ingest.readers.dicom import read_series
from augserver.ingest.readers.dicom_series import sort_series
from augserver.ingest.readers.formats import read_file
from augserver.ingest.scan import Scan

FORMATS = ("nii", "nii.gz", "nrrd", "nrrd.raw", "mha", "mha.raw")
SYNTAXES = {"native": None, "rle": RLELossless, "jpeg2000": JPEG2000Lossless, "jpegls": JPEGLSLossless}
CASES = int(os.environ.get("AUGSERVER_FUZZ_CASES", "1500"))
PER_FORMAT = settings(
    max_examples=CASES // (len(FORMATS) + len(SYNTAXES)),
    deadline=10_000,  # ms: a hang, or gigabytes asked for by a damaged size
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# Headers lie at the beginning and are short: half of the places fall there.
PLACE = st.one_of(st.integers(0, 1 << 20), st.integers(0, 600))
EDIT = st.one_of(
    st.tuples(st.just("flip"), PLACE, st.integers(0, 7)),
    st.tuples(st.just("overwrite"), PLACE, st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("cut"), PLACE, st.integers(1, 64)),
    st.tuples(st.just("truncate"), PLACE, st.none()),
)
EDITS = st.lists(EDIT, min_size=1, max_size=3)


def damaged(good: bytes, edits: list[tuple[str, int, Any]]) -> bytes:
    harmed = bytearray(good)
    for kind, place, what in edits:
        at = place % max(1, len(harmed))
        if kind == "flip" and harmed:
            harmed[at] ^= 1 << what
        elif kind == "overwrite":
            harmed[at : at + len(what)] = what[: len(harmed) - at]
        elif kind == "cut":
            del harmed[at : at + what]
        elif kind == "truncate":
            del harmed[at:]
    return bytes(harmed)


def voxel_bytes(scan: Scan) -> np.ndarray:
    return np.sort(np.ascontiguousarray(scan.voxels).view(np.uint8), axis=None)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_files(tmp_path: Path, write_scan: Callable[..., Path], kind: str) -> None:
    suffix = kind.removesuffix(".raw")
    path = write_scan(tmp_path / f"scan.{suffix}", compress=kind in ("nrrd", "mha"))
    good = path.read_bytes()
    whole = canonical_scan(read_file(path))
    taken = 0

    @PER_FORMAT
    @given(EDITS)
    def check(edits: list[tuple[str, int, Any]]) -> None:
        nonlocal taken
        harmed = damaged(good, edits)
        path.write_bytes(harmed)
        scan, reason = None, ""
        try:
            scan = read_file(path)
        except VolumeError as error:
            reason = str(error)
        if scan is None:
            assert reason.startswith(f"scan.{suffix}: ")
            assert str(tmp_path) not in reason
            return
        taken += 1
        if kind == "nii.gz":
            scan = canonical_scan(scan)
            np.testing.assert_array_equal(scan.voxels, whole.voxels)
            np.testing.assert_array_equal(scan.affine, whole.affine)
        elif kind in ("nrrd", "mha"):
            np.testing.assert_array_equal(voxel_bytes(scan), voxel_bytes(whole))
        elif not any("scaled" in note for note in scan.notes):
            size = scan.voxels.nbytes
            assert any(
                np.array_equal(np.sort(np.frombuffer(harmed, np.uint8, size, start)), voxel_bytes(scan))
                for start in range(max(0, len(harmed) - size - 4096), len(harmed) - size + 1)
            )

    check()
    assert taken > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_damaged_dicom_slices(tmp_path: Path, write_series: Callable[..., list[Path]], syntax: str) -> None:
    voxels = np.random.default_rng(0).integers(0, 2000, (4, 36, 40)).astype(np.uint16)
    options = {} if SYNTAXES[syntax] is None else {"syntax": SYNTAXES[syntax]}
    files = write_series(tmp_path / "series", voxels, **options)
    goods = [file.read_bytes() for file in files]
    taken = 0

    @PER_FORMAT
    @given(EDITS, st.integers(0, 3))
    def check(edits: list[tuple[str, int, Any]], which: int) -> None:
        nonlocal taken
        reason = "series: "
        files[which].write_bytes(damaged(goods[which], edits))
        try:
            found = sort_series(files)
            slices = sum(len(series.slices) for series in found.series)
            assert slices + sum(map(len, found.broken.values())) + sum(found.skipped.values()) == 4
            for series in found.series:
                scan = read_series(series.slices, name="series", modality="ct")
                assert scan.voxels.shape == (1, len(series.slices), 36, 40)
                assert np.isfinite(scan.voxels.astype(np.float32)).all()
                taken += 1
        except VolumeError as error:
            reason = str(error)
        finally:
            files[which].write_bytes(goods[which])
        assert reason.startswith("series: ")
        assert "slice00" not in reason

    check()
    assert taken > 0
