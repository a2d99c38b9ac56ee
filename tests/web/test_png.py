"""The PNG writer, read back by Pillow."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from augserver.web.png import encode_png


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 7, 3), (300, 211, 3)])
def test_pillow_reads_the_same_pixels(shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(sum(shape)).integers(0, 256, shape).astype(np.uint8)
    with Image.open(io.BytesIO(encode_png(pixels))) as picture:
        picture.verify()  # checks of all chunks
    with Image.open(io.BytesIO(encode_png(pixels))) as picture:
        assert picture.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(picture), pixels)
