"""The synthetic torsos: what a CT of a body shows, in HU and in place."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from augserver.ingest.torso_phantom import BLADDER, BONE, CLASSES, KIDNEYS, LIVER, LUNGS, Torso, make_torso

TORSOS = 3


@pytest.fixture(scope="module")
def torsos() -> list[Torso]:
    return [make_torso(seed) for seed in range(TORSOS)]


def centre_mm(torso: Torso, label: int) -> np.ndarray:
    """Mean position of a class, xyz LPS mm."""
    voxel = np.argwhere(torso.label == label).mean(axis=0)
    return (torso.affine @ [*voxel, 1.0])[:3]


def test_arrays_and_geometry_agree(torsos: list[Torso]) -> None:
    assert len(torsos) == TORSOS
    for torso in torsos:
        assert (torso.image.shape, torso.image.dtype) == ((1, 130, 120, 140), np.int16)
        assert (torso.label.shape, torso.label.dtype) == ((130, 120, 140), np.uint8)
        np.testing.assert_allclose(np.linalg.norm(torso.affine[:3, :3], axis=0), torso.spacing_mm)
        assert (torso.affine @ [1, 0, 0, 0]).tolist() == [0, 0, 3, 0]  # z is the head's direction
        assert (torso.affine @ [0, 0, 1, 0]).tolist() == [3, 0, 0, 0]  # x is the patient's left


def test_every_class_has_its_density_and_a_plausible_volume(torsos: list[Torso]) -> None:
    litres = {LIVER: (0.5, 2.5), BLADDER: (0.03, 0.4), LUNGS: (1.5, 6.0), KIDNEYS: (0.15, 0.6), BONE: (0.8, 3.0)}
    hu = {LIVER: (40, 180), BLADDER: (-10, 40), LUNGS: (-900, -600), KIDNEYS: (25, 220), BONE: (150, 600)}
    assert len(torsos) == TORSOS
    for torso in torsos:
        for label in CLASSES.keys() - {0}:
            voxels = torso.label == label
            assert litres[label][0] < voxels.sum() * 27e-6 < litres[label][1], CLASSES[label]
            assert hu[label][0] < torso.image[0][voxels].mean() < hu[label][1], CLASSES[label]
        corner = torso.image[0, :, :8, :8]
        assert corner.min() >= -1024
        assert abs(corner.mean() + 1000) < 12


def test_organs_lie_where_they_do_in_a_patient(torsos: list[Torso]) -> None:
    assert len(torsos) == TORSOS
    for torso in torsos:
        liver, bladder, lungs, kidneys, bone = (centre_mm(torso, label) for label in (LIVER, BLADDER, LUNGS, KIDNEYS, BONE))
        assert liver[0] < -20  # to the right
        assert abs(lungs[0]) < 25
        assert bladder[2] < kidneys[2] < liver[2] < lungs[2]  # from the hips upwards
        assert bladder[1] < kidneys[1]  # kidneys lie in the back
        assert bone[1] > lungs[1]
        pieces = ndimage.label(ndimage.binary_opening(torso.label == KIDNEYS))[1]
        assert pieces == 2


@pytest.mark.slow
def test_a_seed_is_one_patient_and_another_seed_another(torsos: list[Torso]) -> None:
    again = make_torso(1)
    assert np.array_equal(again.image, torsos[1].image)
    assert np.array_equal(again.label, torsos[1].label)
    liver = [(torso.label == LIVER) for torso in torsos]
    overlap = 2 * (liver[0] & liver[1]).sum() / (liver[0].sum() + liver[1].sum())
    assert 0.3 < overlap < 0.95


def test_other_grids_hold_the_same_patient() -> None:
    coarse = make_torso(0, shape=(65, 60, 70), spacing_mm=6.0)
    assert coarse.label.shape == (65, 60, 70)
    assert set(np.unique(coarse.label)) == set(CLASSES)
