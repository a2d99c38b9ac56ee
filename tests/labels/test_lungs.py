"""Lungs against the truth of real scans, under what goes wrong with scans, and where there are none."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from augserver.errors import GeometryError
from augserver.ingest.torso_phantom import LUNGS, Torso, make_torso
from augserver.labels import find_lungs

Overlap = Callable[[Any, Any], float]
Read = Callable[[str], Any]


def found(hu: NDArray[Any], spacing_mm: tuple[float, float, float]) -> NDArray[np.bool_]:
    finding = find_lungs(hu, spacing_mm)
    assert finding.mask is not None, finding.reason
    assert finding.mask.shape == hu.shape
    return finding.mask


@cache
def torso(seed: int) -> Torso:
    return make_torso(seed)


@pytest.mark.parametrize(
    ("scan", "truth", "least"),
    [
        ("cip_chest64/ct-64.nrrd", "cip_chest64/wholeLung-64.nrrd", 0.98),
        ("cip_chest64/ct-64.nrrd", "cip_chest64/lm-64.nrrd", 0.98),
        ("cip_chest64/ct-64-transformed.nrrd", "cip_chest64/lm-64-transformed.nrrd", 0.98),
        ("elastix_lung/3DCT_lung.mha", "elastix_lung/3DCT_lung_baseline_mask.mha", 0.98),  # one lung, cut by the field of view
    ],
)
def test_lungs_of_real_scans(read: Read, overlap: Overlap, scan: str, truth: str, least: float) -> None:
    ct = read(scan)
    assert overlap(found(ct.hu, ct.spacing_mm), read(truth).hu > 0) >= least


@pytest.mark.parametrize("name", ["example_ct", "example_ct_sm"])
def test_lung_bases_on_top_of_an_abdomen_and_no_bowel(read: Read, overlap: Overlap, name: str) -> None:
    ct = read(f"totalseg/{name}.nii.gz")
    truth = read("totalseg/example_seg_fast_force_split.nii.gz" if name == "example_ct" else "totalseg/example_seg.nii.gz").hu
    lungs = found(ct.hu, ct.spacing_mm)
    assert overlap(lungs, np.isin(truth, range(10, 15))) >= 0.85
    assert not lungs[np.isin(truth, [6, 18, 19, 20])].any()  # stomach, small bowel, duodenum, colon


def test_lung_bases_of_a_contrast_enhanced_abdomen_with_padding_of_minus_3024(read: Read) -> None:
    ct = read("crlm_1004/CRLM-CT-1004_ct_1.6x1.6x5.nii.gz")
    lungs = found(ct.hu, ct.spacing_mm)
    assert 1.1e6 < lungs.sum() * np.prod(ct.spacing_mm) < 1.4e6
    assert not lungs[:18].any()  # bowel gas is below; the picture shows the lungs' lowest point in slice 20


@pytest.mark.parametrize("name", ["STS_003", "STS_042"])
def test_a_pelvis_and_a_knee_have_no_lungs(read: Read, name: str) -> None:
    ct = read(f"ibsi_sts/{name}_CT_image.nii.gz")
    finding = find_lungs(ct.hu, ct.spacing_mm)
    assert finding.mask is None
    assert "in view" in finding.reason


def test_gas_of_the_stomach_in_twenty_slices_of_abdomen_is_no_lung(read_series: Read) -> None:
    ct = read_series("totalseg/example_ct_dicom.zip")
    finding = find_lungs(ct.hu, ct.spacing_mm)
    assert finding.mask is None
    assert "as in bowel" in finding.reason


@pytest.mark.parametrize("seed", range(6))
def test_lungs_of_phantoms(overlap: Overlap, seed: int) -> None:
    phantom = torso(seed)
    assert overlap(found(phantom.image[0], phantom.spacing_mm), phantom.label == LUNGS) >= 0.97


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("below_mm", [3, 12, 36])
def test_phantoms_without_thorax_are_refused_though_stomach_and_bowel_have_gas(seed: int, below_mm: int) -> None:
    phantom = torso(seed)
    base = int(np.flatnonzero((phantom.label == LUNGS).any(axis=(1, 2)))[0])
    finding = find_lungs(phantom.image[0, : base - below_mm // 3], phantom.spacing_mm)
    assert finding.mask is None
    assert "lung in view" in finding.reason or "thorax in view" in finding.reason


class TestDisturbed:
    """The chest of cip_chest64, with what goes wrong with scans done to it. The truth goes along."""

    @pytest.fixture(autouse=True)
    def scan(self, read: Read, overlap: Overlap) -> None:
        ct = read("cip_chest64/ct-64.nrrd")
        self.hu, self.spacing_mm = ct.hu.astype(np.int16), ct.spacing_mm
        self.truth = read("cip_chest64/lm-64.nrrd").hu > 0
        self.overlap = overlap

    def check(self, hu: NDArray[Any], truth: NDArray[np.bool_], least: float = 0.97) -> None:
        assert self.overlap(found(hu, self.spacing_mm), truth) >= least

    @pytest.mark.parametrize("window", ["[40:]", "[:40]", "[:, :, 16:]", "[:, :, :40]", "[:, 19:]", "[:, :45]"])
    def test_crops_of_every_side(self, window: str) -> None:
        parts = {
            "[40:]": np.s_[40:],
            "[:40]": np.s_[:40],
            "[:, :, 16:]": np.s_[:, :, 16:],
            "[:, :, :40]": np.s_[:, :, :40],
            "[:, 19:]": np.s_[:, 19:],
            "[:, :45]": np.s_[:, :45],
        }
        self.check(self.hu[parts[window]], self.truth[parts[window]], 0.95)

    @pytest.mark.parametrize("axis", [1, 2])
    def test_prone_or_mirrored_by_a_wrong_header(self, axis: int) -> None:
        self.check(np.flip(self.hu, axis), np.flip(self.truth, axis))

    @pytest.mark.parametrize("angle", [20, 45])
    @pytest.mark.parametrize("fill", [-1024, 0, -3024])
    def test_rolled_and_filled(self, angle: int, fill: int) -> None:
        hu = ndimage.rotate(self.hu, angle, axes=(1, 2), order=1, cval=fill)
        self.check(hu, ndimage.rotate(self.truth.astype(np.uint8), angle, axes=(1, 2), order=0) > 0, 0.96)

    @pytest.mark.parametrize("offset", [-30, 24])
    def test_a_scanner_off_its_calibration(self, offset: int) -> None:
        self.check(self.hu + offset, self.truth)

    def test_noise(self) -> None:
        self.check(self.hu + np.random.default_rng(0).normal(0, 80, self.hu.shape), self.truth)

    def test_one_lung_gone(self) -> None:
        left = np.arange(64)[None, None, :] > 31
        hu, truth = self.hu.copy(), self.truth & ~left
        hu[self.truth & left] = 20
        self.check(hu, truth)

    def test_fluid_in_the_back_half(self) -> None:
        back = np.arange(64)[None, :, None] > 30
        hu, truth = self.hu.copy(), self.truth & ~back
        hu[self.truth & back] = 10
        self.check(hu, truth, 0.96)

    def test_streaks_of_metal(self) -> None:
        hu = self.hu.copy()
        hu[40:44, 20:50] = np.where(np.random.default_rng(0).random((4, 30, 64)) < 0.5, -1024, hu[40:44, 20:50])
        hu[40:44, 34:38, 30:34] = 3000
        self.check(hu, self.truth, 0.95)

    @pytest.mark.parametrize("spacing_mm", [1.5, 3.0])
    def test_other_grids(self, spacing_mm: float) -> None:
        zoom = np.array(self.spacing_mm) / spacing_mm
        truth = ndimage.zoom(self.truth.astype(np.uint8), zoom, order=0) > 0
        mask = found(ndimage.zoom(self.hu, zoom, order=1), (spacing_mm,) * 3)
        assert self.overlap(mask, truth) >= 0.96

    def test_the_windpipe_is_not_lung(self, read: Read) -> None:
        windpipe = read("cip_chest64/lm-64.nrrd").hu == 512
        assert windpipe.sum() == 510
        assert found(self.hu, self.spacing_mm)[windpipe].mean() < 0.25

    def test_a_circle_that_cuts_both_lungs_is_refused_or_right(self) -> None:
        y, x = np.mgrid[:64, :64]
        beyond = np.hypot(y - 30, x - 32) > 24
        hu, truth = self.hu.copy(), self.truth & ~beyond
        hu[:, beyond] = -2000
        finding = find_lungs(hu, self.spacing_mm)
        assert "cuts the lungs" in finding.reason if finding.mask is None else self.overlap(finding.mask, truth) >= 0.95

    def test_values_that_are_clipped_or_not_hu_are_refused(self) -> None:
        for hu, reason in ((np.clip(self.hu, -200, 400), "not a CT in HU"), (self.hu + 1024, "not a CT in HU")):
            finding = find_lungs(hu, self.spacing_mm)
            assert finding.mask is None
            assert reason in finding.reason


def test_air_alone_has_no_body() -> None:
    finding = find_lungs(np.full((9, 20, 30), -1000, np.int16), (5.0, 3.0, 3.0))
    assert finding.mask is None
    assert "no body in view" in finding.reason


@pytest.mark.parametrize(("shape", "spacing_mm"), [((3, 4), (1.0, 1.0, 1.0)), ((3, 4, 5), (1.0, 0.0, 1.0)), ((3, 0, 5), (1.0, 1.0, 1.0))])
def test_what_is_no_volume_is_an_error(shape: tuple[int, ...], spacing_mm: tuple[float, float, float]) -> None:
    with pytest.raises(GeometryError):
        find_lungs(np.zeros(shape, np.int16), spacing_mm)
