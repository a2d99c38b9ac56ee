"""The picture of patches: planes, orientation and colours."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from augserver.web.sheet import Column, choose_planes, colour_of, cut_planes, draw_sheet

SHAPE = (20, 30, 40)


@pytest.fixture
def label() -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    label[14:18, 3:9, 2:12] = 1  # towards the head, in front, on the patient's right
    label[15, 20:22, 30:35] = 2
    label[2, 25, 8] = 3
    return label


def column(label: np.ndarray | None, image: np.ndarray | None = None) -> Column:
    image = np.zeros(SHAPE) if image is None else image
    return Column(title="seed 1", captions=("one", "two"), planes=cut_planes(image, label, choose_planes(SHAPE, label)))


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
    picture = draw_sheet([column(label, image)], {0: "background", 1: "liver"}, "heading").picture
    filled = tuple(int(c * 0.33) for c in colour_of(1))  # on black
    left, axial, coronal = 26, 44 + 26 + 36, 44 + 26 + 36 + 60 + 10
    for top, height in ((axial, 60), (coronal, 40)):
        assert count_near(picture, filled, (left, top, left + 40, top + height // 2)) > 0
        assert count_near(picture, filled, (left, top + height // 2, left + 80, top + height)) == 0
        assert count_near(picture, filled, (left + 40, top, left + 80, top + height)) == 0
    rows = np.asarray(picture.crop((left + 60, coronal, left + 80, coronal + 40)).convert("L")).mean(axis=1)
    assert rows.argmax() in (6, 7)  # plane 16 of 20 has three above it, each two pixels high


def test_columns_lie_side_by_side_and_the_legend_names_the_classes(label: np.ndarray) -> None:
    one = draw_sheet([column(label)], {0: "background", 1: "liver"}, "").picture
    two = draw_sheet([column(label), column(label)], {0: "background", 1: "liver"}, "").picture
    assert two.width - one.width == 80 + 10
    assert one.height == two.height
    foot = (0, one.height - 40, one.width, one.height)
    assert count_near(one, colour_of(1), foot) >= 15 * 15
    assert count_near(one, colour_of(2), foot) == 0


def test_a_patch_without_labels_is_drawn_grey() -> None:
    image = np.linspace(0, 1, np.prod(SHAPE)).reshape(SHAPE)
    pixels = np.asarray(draw_sheet([column(None, image)], {}, "").picture.crop((26, 110, 100, 300)), int)
    assert pixels.max() > 200
    assert (np.ptp(pixels, axis=-1) <= 4).all()  # the paper is a little blue


def test_views_lie_where_the_sheet_says_and_voxels_are_as_large_as_zoom_says(label: np.ndarray) -> None:
    image = np.zeros(SHAPE)
    image[10, 15, 20] = 1.0
    plain = Column(title="", captions=(), planes=cut_planes(image, None, [10, 15, 20]))
    sheet = draw_sheet([plain, plain], {}, "", zoom=(6.0, 1.0, 3.0))
    pixels = np.asarray(sheet.picture.convert("L"), int)
    assert len(sheet.views) == 2
    for column_views in sheet.views:
        assert [box[2:] for box in column_views] == [(120, 30), (120, 120), (30, 120)]
        for (left, top, width, height), (row, across) in zip(column_views, ((15.5, 61.5), (57, 61.5), (57, 15.5)), strict=True):
            view = pixels[top : top + height, left : left + width]
            y, x = np.unravel_index(view.argmax(), view.shape)
            assert abs(y + 0.5 - row) <= 3.5  # a voxel is up to six pixels high
            assert abs(x + 0.5 - across) <= 2


def test_a_long_legend_takes_rows_and_stays_inside(label: np.ndarray) -> None:
    few = draw_sheet([column(label)], {1: "liver"}, "").picture
    many = draw_sheet([column(label)], {k: f"rib number {k}" for k in range(1, 25)}, "").picture
    assert many.width == few.width
    assert many.height > few.height + 10 * 20
    assert count_near(many, colour_of(24), (0, many.height - 40, many.width, many.height)) >= 15 * 15
