"""The sheet of a recipe without a browser: the samples are a stream's, the untouched column is their place."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import augclient
import numpy as np
import pytest
from augclient import Recipe
from PIL import Image

from augserver.errors import NotFoundError, PatchError, RecipeError, RequestError
from augserver.store import Dataset
from augserver.web.patches import PatchMaker, first_index
from augserver.web.studio import SheetRequest, draw_seeds

RECIPE = Recipe(
    crop={"mode": "uniform"},
    affine={"rotate_deg": 20, "scale": [0.8, 1.2]},
    occlude={"max_voxels": 5},
    contrast={"factor": [0.5, 2]},
    brightness={"offset": 30},
    gamma={"exponent": [0.5, 2]},
    noise={"std": [5, 50]},
    window={"low": [-200, -100], "high": [200, 400]},
)
PATCH = (12, 14, 20)


@pytest.fixture(scope="module")
def maker(ct: Dataset) -> Iterator[PatchMaker]:
    with PatchMaker(ct) as maker:
        yield maker


def request(**changes: Any) -> SheetRequest:
    return SheetRequest(**{"recipe": RECIPE, "volume": "case_2", "patch": PATCH, "seed": 3, "count": 2, **changes})


@pytest.mark.parametrize("mode", ["uniform", "center", "valid", "foreground"])
def test_a_patch_has_the_bits_that_the_server_sends(shown: Any, maker: PatchMaker, mode: str) -> None:
    recipe = Recipe.from_dict({**RECIPE.to_dict(), "crop": {"mode": mode}})
    plan = maker.plan(recipe, PATCH, 3)
    index = first_index(plan, "case_2")
    patch = maker.make(recipe, plan, index)
    with augclient.connect(str(shown.server.address)) as server:
        sample = server.sample(recipe, index=index, seed=3, patch=PATCH)
    assert sample.sample.volume == "case_2"
    assert np.ptp(sample.image) > 0.5
    np.testing.assert_array_equal(patch.image, sample.image)
    np.testing.assert_array_equal(patch.label, sample.label)


def test_columns_say_seed_sample_and_what_was_drawn(maker: PatchMaker) -> None:
    drawn = draw_seeds(maker, request(volume="case_1"))
    assert [column.seed for column in drawn.columns] == [None, 3, 4]
    for column in drawn.columns[1:]:
        plan = maker.plan(RECIPE, PATCH, column.seed)
        assert plan.address(column.index)[2] == "case_1"
        params = plan.params(column.index)
        assert column.title.startswith(f"seed {column.seed}, sample {column.index}")
        assert column.captions[0] == f"window {params.window[0]:.0f} to {params.window[1]:.0f} HU"
        assert column.captions[1] == f"contrast {params.contrast:.2f}, {params.brightness:+.3g} HU, gamma {params.gamma:.2f}"
        assert column.captions[2] == f"noise {params.noise_std:.2g} HU"
        slab = params.occlusion
        assert column.captions[3] == (f"planes {slab[0]} to {slab[1] - 1} occluded" if slab else "nothing occluded")
    assert drawn.columns[0].captions == ("window -150 to 300 HU",)


def test_the_untouched_column_is_the_place_of_the_first_seed(maker: PatchMaker) -> None:
    recipe = Recipe(crop={"mode": "uniform"}, window={"low": -200, "high": 300})
    drawn = draw_seeds(maker, request(recipe=Recipe.from_dict({**recipe.to_dict(), "noise": {"std": 0}})))
    pixels = np.asarray(Image.open(io.BytesIO(drawn.png)), int)
    untouched, same = ([pixels[y : y + h, x : x + w] for x, y, w, h in column.views] for column in drawn.columns[:2])
    assert len(same) == 3
    for one, other in zip(untouched, same, strict=True):
        np.testing.assert_array_equal(one, other)


def test_voxels_are_drawn_as_large_as_they_are(maker: PatchMaker) -> None:
    axial, coronal, sagittal = draw_seeds(maker, request()).columns[0].views  # 12 x 14 x 20 voxels of 3 x 1.5 x 1 mm
    scale = 256 / 36
    assert axial[2:] == (round(20 * scale), round(21 * scale))
    assert coronal[2:] == (round(20 * scale), 256)
    assert sagittal[2:] == (round(21 * scale), 256)
    spaced = Recipe.from_dict({**RECIPE.to_dict(), "output": {"spacing_mm": 1}})
    axial, coronal, _ = draw_seeds(maker, request(recipe=spaced)).columns[0].views
    assert axial[2:] == (256, round(14 * 256 / 20))
    assert coronal[2:] == (256, round(12 * 256 / 20))


def test_without_a_window_the_untouched_patch_decides_what_is_black_and_white(mr: Dataset) -> None:
    with PatchMaker(mr) as maker:
        drawn = draw_seeds(maker, request(recipe=Recipe(), volume="brain"))
    pixels = np.asarray(Image.open(io.BytesIO(drawn.png)).convert("L"), int)
    left, top, width, height = drawn.columns[0].views[0]
    view = pixels[top : top + height, left : left + width]
    assert view.min() < 10
    assert view.max() > 245


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"volume": "case_9"}, NotFoundError, "no volume 'case_9'"),
        ({"count": 0}, RequestError, "count: got 0"),
        ({"count": 9}, RequestError, "count: got 9"),
        ({"patch": (99, 1, 1)}, PatchError, "exceeds volume 'case_1'"),
        ({"seed": 2**64 - 1}, RequestError, "seed: got"),  # the second one is too large
        ({"recipe": Recipe(gamma={"exponent": 2})}, RecipeError, "gamma works on"),
        ({"recipe": Recipe(output={"sampler": "texture"})}, RecipeError, "output.sampler: got 'texture'"),
    ],
)
def test_what_a_server_would_refuse_is_refused(maker: PatchMaker, changes: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        draw_seeds(maker, request(**changes))
