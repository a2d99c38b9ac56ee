"""Only the largest piece of an organ stays; SimpleITK agrees."""

from __future__ import annotations

import numpy as np
import SimpleITK
from augtrain.predict.components import keep_largest_components


def test_smaller_pieces_become_background_and_are_counted() -> None:
    label = np.zeros((5, 7, 11), np.uint8)
    label[1:3, 1:4, 1:5] = 3  # 24 voxels
    label[3, 4, 5] = 3  # touches them by a corner: the same piece
    label[0, 6, 8:11] = 3
    label[4, 0, 0] = 3
    label[4, 6, :] = 2
    expected = label.copy()
    expected[0, 6, 8:11] = 0
    expected[4, 0, 0] = 0
    assert keep_largest_components(label, [1, 2, 3, 9]) == {3: 4}
    np.testing.assert_array_equal(label, expected)


def test_classes_that_are_not_named_stay_as_they_are() -> None:
    label = np.array([[[1, 0, 1, 1, 0, 2, 0, 2, 2]]], np.uint8)
    assert keep_largest_components(label, [2]) == {2: 1}
    np.testing.assert_array_equal(label, [[[1, 0, 1, 1, 0, 0, 0, 2, 2]]])


def test_simpleitk_keeps_the_same_pieces() -> None:
    label = (np.random.default_rng(4).random((9, 12, 15)) < 0.12).astype(np.uint8)
    pieces = SimpleITK.RelabelComponent(SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray(label), True))
    largest = SimpleITK.GetArrayFromImage(pieces) == 1
    assert 0 < largest.sum() < label.sum()
    keep_largest_components(label, [1])
    np.testing.assert_array_equal(label, largest)
