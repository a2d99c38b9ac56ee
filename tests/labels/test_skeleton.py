"""Bones against the truth of a real scan and of phantoms, and what must not be taken for bone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from augserver.ingest.torso_phantom import BONE, make_torso
from augserver.labels import find_bones

_BONES = ("vertebra", "rib_", "sacrum", "hip_", "femur", "humerus", "scapula", "clavicula", "sternum", "skull")


def test_bones_of_a_real_abdomen(read: Callable[[str], Any], overlap: Callable[[Any, Any], float], shared_data: Path) -> None:
    ct = read("totalseg/example_ct.nii.gz")
    names = json.loads((shared_data / "totalseg/label_names.json").read_text())["total_ct_v2"]
    truth = np.isin(read("totalseg/example_seg_fast_force_split.nii.gz").hu, [int(k) for k, n in names.items() if n.startswith(_BONES)])
    finding = find_bones(ct.hu, ct.spacing_mm)
    assert finding.mask is not None, finding.reason
    assert overlap(finding.mask, truth) >= 0.85


@pytest.mark.parametrize("seed", range(3))
def test_bones_of_phantoms_with_contrast_agent(overlap: Callable[[Any, Any], float], seed: int) -> None:
    phantom = make_torso(seed)
    finding = find_bones(phantom.image[0], phantom.spacing_mm)
    assert finding.mask is not None, finding.reason
    assert overlap(finding.mask, phantom.label == BONE) >= 0.85


def test_enhanced_kidneys_are_not_bone(read: Callable[[str], Any]) -> None:
    """Both kidneys are above 200 HU in this scan, with urine of 500 HU in them: bright in the middle, where bone is not."""
    ct = read("crlm_1004/CRLM-CT-1004_ct_1.6x1.6x5.nii.gz")
    finding = find_bones(ct.hu, ct.spacing_mm)
    assert finding.mask is not None
    kidneys = np.zeros(ct.hu.shape, bool)
    kidneys[6:9, 100:140, 65:95] = True  # right, in the pictures
    bright = kidneys & (ct.hu > 150)
    assert bright.sum() > 1000
    assert finding.mask[bright].mean() < 0.1


def test_the_couch_is_not_bone(read: Callable[[str], Any]) -> None:
    ct = read("crlm_1004/CRLM-CT-1004_ct_1.6x1.6x5.nii.gz")
    finding = find_bones(ct.hu, ct.spacing_mm)
    assert finding.mask is not None
    assert (ct.hu[:, 205:] > 0).sum() > 5_000
    assert not finding.mask[:, 205:].any()


def test_muscle_between_ribs_and_shoulder_blade_is_not_bone(read: Callable[[str], Any]) -> None:
    ct = read("elastix_lung/3DCT_lung.mha")
    finding = find_bones(ct.hu, ct.spacing_mm)
    assert finding.mask is not None
    muscle = (ct.hu > 0) & (ct.hu < 80)
    assert finding.mask[muscle].mean() < 0.02


def box(value: float) -> np.ndarray[Any, np.dtype[np.int16]]:
    """A body of water, 60 x 120 x 150 mm, with a tube of 30 mm of `value` in it."""
    hu = np.full((20, 60, 70), -1000, np.int16)
    hu[:, 10:50, 10:60] = 20
    y, x = np.mgrid[:60, :70]
    hu[:, np.hypot(y - 30, x - 30) < 5] = value
    return hu


def test_no_bone_is_said_with_the_highest_value() -> None:
    finding = find_bones(box(120), (3.0, 3.0, 3.0))
    assert finding.mask is None
    assert "no bone in view" in finding.reason
    assert "120 HU" in finding.reason


def test_metal_is_refused() -> None:
    finding = find_bones(box(3000), (3.0, 3.0, 3.0))
    assert finding.mask is None
    assert finding.reason.startswith("metal")


def test_a_body_that_is_all_bright_is_refused() -> None:
    hu = box(400)
    hu[hu == 20] = 350
    finding = find_bones(hu, (3.0, 3.0, 3.0))
    assert finding.mask is None
    assert "would be bone" in finding.reason


def test_marrow_is_filled_and_a_ring_as_wide_as_a_pelvis_is_not() -> None:
    hu = box(20)
    y, x = np.mgrid[:60, :70]
    small, large = np.hypot(y - 22, x - 22), np.hypot((y - 30) * 1.0, x - 42)
    hu[:, (small < 5) & (small >= 3)] = 900
    hu[:, small < 3] = -60
    hu[:, (large < 16) & (large >= 13)] = 900
    finding = find_bones(hu, (3.0, 3.0, 3.0))
    assert finding.mask is not None
    assert finding.mask[10, 22, 22]
    assert not finding.mask[10, 30, 42]
