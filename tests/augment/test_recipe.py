"""What compile_recipe accepts and refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from augclient.recipe import Recipe
from augclient.wire.v1 import augserver_pb2 as pb

from augserver.augment import CompiledRecipe, compile_recipe
from augserver.errors import RecipeError

Compile = Callable[..., CompiledRecipe]
NAN, INF = float("nan"), float("inf")
WINDOW = {"low": -100, "high": 200}


def test_an_empty_recipe_is_the_identity(compiled: Compile) -> None:
    recipe = compiled()
    assert (recipe.crop.mode, recipe.crop.pad, recipe.crop.patches_per_volume) == ("center", False, 1)
    assert (recipe.affine, recipe.occlude, recipe.window, recipe.keep_labels, recipe.spacing_mm) == (None,) * 5
    assert (recipe.contrast, recipe.brightness, recipe.gamma, recipe.noise_std) == (None,) * 4
    assert recipe.fill == -1000.0


def test_values_reach_their_rules(compiled: Compile) -> None:
    recipe = compiled(
        modality="mr",
        crop={"mode": "valid", "patches_per_volume": 4},
        affine={"rotate_deg": 15, "scale": [[0.5, 1], [1, 1], [1, 2]], "reflect": [0.0, 0.25, 0.5], "probability": 0.5},
        occlude={"max_voxels": 9, "label": "keep"},
        noise={"std": [0, 30]},
        window={"low": [-10, 0], "high": 5},
        labels={"keep": ["lungs", "liver"]},
        output={"spacing_mm": [3, 2, 1]},
    )
    assert recipe.affine is not None
    assert recipe.affine.rotate_deg == ((-15.0, 15.0),) * 3
    assert recipe.affine.scale == ((0.5, 1.0), (1.0, 1.0), (1.0, 2.0))
    assert (recipe.affine.reflect, recipe.affine.probability, recipe.affine.shear) == ((0.0, 0.25, 0.5), 0.5, None)
    assert recipe.occlude is not None
    assert (recipe.occlude.max_voxels, recipe.occlude.label, recipe.occlude.probability) == (9, None, 1.0)
    assert (recipe.noise_std, recipe.window) == ((0.0, 30.0), ((-10.0, 0.0), (5.0, 5.0)))
    assert (recipe.keep_labels, recipe.spacing_mm, recipe.fill) == (frozenset({1, 3}), (3.0, 2.0, 1.0), 0.0)
    assert (recipe.crop.mode, recipe.crop.patches_per_volume) == ("valid", 4)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"affine": {"rotate_deg": [15, -15]}}, r"affine.rotate_deg: got \[15, -15\], which is reversed; allowed: low <= high"),
        ({"affine": {"rotate_deg": [NAN, 1]}}, r"affine.rotate_deg: got nan; allowed: -3.6e\+04 to 3.6e\+04"),
        ({"affine": {"scale": [0, 1]}}, r"affine.scale: got 0; allowed: 0.01 to 100"),
        ({"affine": {"scale": [[1, 1], [1, 1], [-1, 1]]}}, "affine.scale: got -1"),
        ({"affine": {"shear": 0.5}}, "affine.shear: got -0.5; allowed: -0.49 to 0.49, beyond which the transform could become singular"),
        ({"affine": {"warp": [0, 0.4]}}, "affine.warp: got 0.4; allowed: -0.33 to 0.33, beyond"),
        ({"affine": {"reflect": 1.5}}, "affine.reflect: got 1.5; allowed: 0 to 1"),
        ({"affine": {"reflect": [0, 0, NAN]}}, "affine.reflect: got nan"),
        ({"affine": {"translate_mm": INF}}, "affine.translate_mm: got -inf"),
        ({"affine": {"probability": -0.1}}, "affine.probability: got -0.1; allowed: 0 to 1"),
        ({"occlude": {"max_voxels": 5, "probability": NAN}}, "occlude.probability: got nan"),
        ({"occlude": {"label": 256}}, 'occlude.label: got 256; allowed: 0 to 255, as labels are uint8, or "keep"'),
        ({"noise": {"std": [-1, 30]}}, r"noise.std: got -1; allowed: 0 to 1e\+09"),
        ({"noise": {"std": NAN}}, "noise.std: got nan"),
        ({"noise": {}}, r"noise needs noise.std; give it a range or one number, or leave \[noise\] out"),
        ({"gamma": {"exponent": 0}, "window": WINDOW}, "gamma.exponent: got 0; allowed: 0.001 to 1000"),
        ({"gamma": {"exponent": 1.2}}, r"gamma works on the window's \[0, 1\], but the recipe has no \[window\]"),
        ({"window": {"low": [0, 300], "high": [200, 400]}}, "every low must be below every high, got low up to 300 and high from 200"),
        ({"window": {"low": 1e9, "high": 1e9}}, "every low must be below every high"),
        ({"window": {"low": 1}}, "window needs both window.low and window.high"),
        ({"window": {"low": NAN, "high": 1}}, "window.low: got nan"),
        (
            {"crop": {"mode": "centre"}},
            "crop.mode: got 'centre'; did you mean 'center'. allowed: 'center', 'uniform', 'valid'",
        ),
        ({"crop": {"patches_per_volume": 65537}}, "crop.patches_per_volume: got 65537; allowed: 1 to 65536"),
        ({"output": {"sampler": "exakt"}}, "output.sampler: got 'exakt'; did you mean 'exact'"),
        ({"output": {"fill": NAN}}, "output.fill: got nan"),
        ({"output": {"labels": "liner"}}, "output.labels: got 'liner'; did you mean 'linear'. allowed: 'nearest', 'linear'"),
        ({"output": {"border": "egde"}}, "output.border: got 'egde'; did you mean 'edge'. allowed: 'fill', 'edge'"),
        ({"output": {"outside_label": 256}}, 'output.outside_label: got 256; allowed: 0 to 255, as labels are uint8, or "ignore"'),
        ({"output": {"outside_label": "ignore"}}, "but no class of the dataset is named 'ignore'; give a number"),
        ({"output": {"border": "edge", "sampler": "texture"}}, 'output.border: got "edge", which output.sampler "texture" does not have'),
        ({"output": {"spacing_mm": [1, 0, 1]}}, "output.spacing_mm: got 0; allowed: 0.01 to 100"),
        (
            {"labels": {"keep": ["livr"]}},
            "labels.keep: got 'livr'; did you mean 'liver'. allowed: 'background', 'liver', ",
        ),
        ({"labels": {}}, "labels.keep names no class"),
    ],
)
def test_a_value_without_meaning_is_refused_by_key(sections: dict[str, dict[str, Any]], message: str, compiled: Compile) -> None:
    with pytest.raises(RecipeError, match=message):
        compiled(**sections)


def test_labels_and_borders_reach_their_rules(compiled: Compile) -> None:
    today = compiled()
    assert (today.label_rule, today.outside_label, today.border, today.ignore_label) == ("nearest", 0, "fill", None)
    recipe = compiled(output={"labels": "linear", "outside_label": 9, "border": "edge"})
    assert (recipe.label_rule, recipe.outside_label, recipe.border) == ("linear", 9, "edge")


def test_the_class_ignore_is_kept_and_is_no_foreground() -> None:
    classes = {0: "background", 1: "liver", 2: "ignore", 3: "lungs"}
    recipe = compile_recipe(Recipe(labels={"keep": ["lungs"]}, output={"outside_label": "ignore"}).proto, modality="ct", classes=classes)
    assert (recipe.ignore_label, recipe.outside_label, recipe.keep_labels, recipe.foreground) == (2, 2, {2, 3}, {3})
    every = compile_recipe(Recipe().proto, modality="ct", classes=classes)
    assert (every.keep_labels, every.foreground) == (None, frozenset(range(1, 256)) - {2})


def test_two_ranges_are_neither_one_nor_three() -> None:
    recipe = pb.Recipe(affine=pb.Recipe.Affine(scale=[pb.Range(low=1, high=1)] * 2))
    with pytest.raises(RecipeError, match=r"affine.scale: got 2 entries; allowed: one for all axes, or three for z, y, x"):
        compile_recipe(recipe, modality="ct", classes={0: "background"})


def test_fields_of_a_newer_client_are_refused_at_any_depth() -> None:
    newer = pb.Recipe()
    newer.ParseFromString(b"\xa2\x06\x02hi")  # field 100, two bytes
    with pytest.raises(RecipeError, match=r"recipe has fields that this server does not know \(numbers \[100\]\); upgrade the server"):
        compile_recipe(newer, modality="ct", classes={0: "background"})
    nested = pb.Recipe()
    nested.ParseFromString(b"\x3a\x06\x0a\x04\xa2\x06\x01x")  # noise { std { field 100 } }
    with pytest.raises(RecipeError, match="std has fields"):
        compile_recipe(nested, modality="ct", classes={0: "background"})
