"""The picture of patches: planes, orientation and colours."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from augserver.cli.sheet import Column, choose_planes, colour_of, draw_sheet

SHAPE = (20, 30, 40)


@pytest.fixture
def label() -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    label[14:18, 3:9, 2:12] = 1  # towards the head, in front, on the patient's right
    label[15, 20:22, 30:35] = 2
    label[2, 25, 8] = 3
    return label


def column(label: np.ndarray | None, image: np.ndarray | None = None) -> Column:
    return Column(title="seed 1", captions=("one", "two"), image=np.zeros(SHAPE) if image is None else image, label=label)


def count_near(picture: Image.Image, colour: tuple[int, ...], box: tuple[int, int, int, int]) -> int:
    pixels = np.asarray(picture.crop(box), int)
    return int((np.abs(pixels - np.array(colour)).max(axis=-1) < 3).sum())


def test_planes_show_all_classes_between_them(label: np.ndarray) -> None:
    z, y, x = choose_planes(SHAPE, label)
    assert z == 15  # two classes there
    assert y == 25  # the third, which no axial plane with two shows
    assert 2 <= x < 12
    assert choose_planes(SHAPE, None) == [10, 15, 20]


def test_views_have_the_head_up_and_the_patients_right_on_the_left(label: np.ndarray) -> None:
    """Only class 1 is drawn: its colour must sit in the expected quarter of each view."""
    label = np.where(label == 1, 1, 0).astype(np.uint8)
    image = np.zeros(SHAPE)
    image[16] = 1.0
    picture = draw_sheet([column(label, image)], {0: "background", 1: "liver"}, "heading")
    filled = tuple(int(c * 0.33) for c in colour_of(1))  # on black
    left, axial, coronal = 26, 44 + 26 + 36, 44 + 26 + 36 + 60 + 10
    for top, height in ((axial, 60), (coronal, 40)):
        assert count_near(picture, filled, (left, top, left + 40, top + height // 2)) > 0
        assert count_near(picture, filled, (left, top + height // 2, left + 80, top + height)) == 0
        assert count_near(picture, filled, (left + 40, top, left + 80, top + height)) == 0
    rows = np.asarray(picture.crop((left + 60, coronal, left + 80, coronal + 40)).convert("L")).mean(axis=1)
    assert rows.argmax() in (6, 7)  # plane 16 of 20 has three above it, each two pixels high


def test_columns_lie_side_by_side_and_the_legend_names_the_classes(label: np.ndarray) -> None:
    one = draw_sheet([column(label)], {0: "background", 1: "liver"}, "")
    two = draw_sheet([column(label), column(label)], {0: "background", 1: "liver"}, "")
    assert two.width - one.width == 80 + 10
    assert one.height == two.height
    foot = (0, one.height - 40, one.width, one.height)
    assert count_near(one, colour_of(1), foot) >= 15 * 15
    assert count_near(one, colour_of(2), foot) == 0


def test_a_patch_without_labels_is_drawn_grey() -> None:
    image = np.linspace(0, 1, np.prod(SHAPE)).reshape(SHAPE)
    pixels = np.asarray(draw_sheet([column(None, image)], {}, "").crop((26, 110, 100, 300)), int)
    assert pixels.max() > 200
    assert (np.ptp(pixels, axis=-1) <= 4).all()  # the paper is a little blue
