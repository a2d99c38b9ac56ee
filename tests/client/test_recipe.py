"""Recipes from TOML and code: what is read, what is refused, what stays equal."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from augclient.errors import NotFoundError, RecipeError
from augclient.recipe import Recipe
from augclient.wire.v1 import augserver_pb2 as pb
from google.protobuf import text_format

FULL = """
[crop]
mode = "uniform"
patches_per_volume = 4
[affine]
rotate_deg = [-15, 15]
scale = [[0.8, 1.25], 1.0, [1, 2]]
shear = 0.1
warp = 0.0
reflect = [0.0, 0.0, 0.5]
translate_mm = [-10, 10]
probability = 1.0
[occlude]
max_voxels = 40
probability = 0.5
label = 0
[contrast]
factor = [0.8, 1.2]
[brightness]
offset = 20
[gamma]
exponent = 1.5
[noise]
std = [0, 30]
[window]
low = [-1000, -100]
high = 200
[labels]
keep = ["liver", "a \\"b\\""]
[output]
fill = -1000
sampler = "exact"
spacing_mm = 3
labels = "linear"
outside_label = 7
border = "edge"
"""

MESSAGE = """
crop { mode: "uniform" patches_per_volume: 4 }
affine {
  rotate_deg { low: -15 high: 15 }
  scale { low: 0.8 high: 1.25 } scale { low: 1 high: 1 } scale { low: 1 high: 2 }
  shear { low: -0.1 high: 0.1 }
  warp { low: -0.0 high: 0.0 }
  reflect: 0 reflect: 0 reflect: 0.5
  translate_mm { low: -10 high: 10 }
  probability: 1
}
occlude { max_voxels: 40 probability: 0.5 label: 0 }
contrast { factor { low: 0.8 high: 1.2 } }
brightness { offset { low: -20 high: 20 } }
gamma { exponent { low: 1.5 high: 1.5 } }
noise { std { low: 0 high: 30 } }
window { low { low: -1000 high: -100 } high { low: 200 high: 200 } }
labels { keep: "liver" keep: "a \\"b\\"" }
output { fill: -1000 sampler: "exact" spacing_mm: 3 labels: "linear" outside_label: 7 border: "edge" }
"""


def test_toml_becomes_the_message_that_protobufs_own_text_format_gives(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(FULL)
    assert Recipe.load(path).proto == text_format.Parse(MESSAGE, pb.Recipe())


def test_every_field_of_the_message_is_a_key_of_the_full_recipe() -> None:
    written = {(section, key) for section, keys in tomllib.loads(FULL).items() for key in keys}
    fields = {
        (section.name, field.name)
        for section in pb.Recipe.DESCRIPTOR.fields
        if section.name != "steps"
        for field in section.message_type.fields
    }
    assert fields - written == {("crop", "pad"), ("occlude", "keep_label"), ("output", "ignore_outside_label")}


def test_steps_travel_as_they_are_written() -> None:
    steps = [
        {"op": "rotate", "degrees": [[-30, 30], 0, 0.5], "probability": 0.2},
        {"op": "multiply", "factor": {"two_sided": [0.75, 1.25]}, "per_channel": True, "about": "mean"},
    ]
    recipe = Recipe(steps=steps)
    assert recipe.to_dict() == {"steps": steps}
    assert Recipe.from_dict(tomllib.loads(recipe.to_toml())) == recipe
    assert Recipe(steps=steps[::-1]) != recipe
    assert pickle.loads(pickle.dumps(recipe)) == recipe


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ({"op": "noise"}, "allowed: a list of tables"),
        (["noise"], r"steps\[1\]: got 'noise'; allowed: a table"),
        ([{"std": 1}], r"steps\[1\] has no op"),
        ([{"op": "noise", "std": float("nan")}], r"steps\[1\] \(noise\).std: got nan; allowed: a finite number"),
        ([{"op": "noise", "std": object()}], r"steps\[1\] \(noise\).std"),
    ],
)
def test_what_is_no_step_is_refused(steps: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe(steps=steps)


def test_without_augmentation_keeps_place_window_and_labels() -> None:
    recipe = Recipe(
        crop={"mode": "uniform"},
        output={"fill": -1000},
        steps=[
            {"op": "rotate", "degrees": 30},
            {"op": "window", "low": [-200, -100], "high": {"normal": [300, 5]}, "probability": 0.5, "clamp": False},
            {"op": "a step of a newer server", "by": 3},
        ],
    )
    plain = recipe.without_augmentation()
    assert plain == Recipe(
        crop={"mode": "uniform"}, output={"fill": -1000}, steps=[{"op": "window", "low": -150, "high": 300, "clamp": False}]
    )
    assert plain.without_augmentation() == plain
    assert Recipe(steps=[{"op": "mirror"}]).without_augmentation() == Recipe()
    assert Recipe(steps=[{"op": "window", "low": 0, "high": 9, "probability": 0}]).without_augmentation() == Recipe()
    assert Recipe(noise={"std": 3}, window={"low": [-10, 0], "high": 8}).without_augmentation() == Recipe(window={"low": -5, "high": 8})


def test_to_toml_loads_as_an_equal_recipe() -> None:
    recipe = Recipe.from_dict(tomllib.loads(FULL))
    again = Recipe.from_dict(tomllib.loads(recipe.to_toml()))
    assert again == recipe
    assert again.proto == recipe.proto
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    kept = Recipe(occlude={"label": "keep"}, output={"outside_label": "ignore"}, gamma={}, crop={"pad": True})
    assert kept.proto.occlude.keep_label
    assert kept.proto.output.ignore_outside_label
    assert Recipe.from_dict(tomllib.loads(kept.to_toml())).proto == kept.proto


def test_an_empty_recipe_is_the_empty_message() -> None:
    assert Recipe().proto == pb.Recipe()
    assert (Recipe().to_dict(), Recipe().to_toml()) == ({}, "")


def test_a_bare_number_is_symmetric_only_where_zero_does_nothing() -> None:
    affine = Recipe(affine={"rotate_deg": 5, "scale": 2, "translate_mm": [1, 2, 3]}).to_dict()["affine"]
    assert affine == {"rotate_deg": [-5.0, 5.0], "scale": [2.0, 2.0], "translate_mm": [[-1.0, 1.0], [-2.0, 2.0], [-3.0, 3.0]]}


def test_equality_and_digest_follow_the_content() -> None:
    one = Recipe(noise={"std": [0, 30]}, affine={"scale": 1, "shear": 0.1})
    other = Recipe(affine={"shear": [-0.1, 0.1], "scale": [1.0, 1.0]}, noise={"std": (0.0, 30.0)})
    assert one == other
    assert hash(one) == hash(other)
    assert one.digest == other.digest
    assert len({Recipe().digest, Recipe(affine={}).digest, one.digest, Recipe(noise={"std": [0, 31]}).digest}) == 4
    assert one != "a recipe"


def test_the_digest_is_the_same_in_another_process() -> None:
    code = "from augclient.recipe import Recipe; print(Recipe(noise={'std': [0, 30]}, occlude={'max_voxels': 3, 'label': 'keep'}).digest)"
    digest = Recipe(noise={"std": [0, 30]}, occlude={"max_voxels": 3, "label": "keep"}).digest
    assert subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout.strip() == digest
    assert digest == "ef08718fd93901d764936fe7e25ffdd979877407890c9d960db928b35a5284b7"


def test_a_recipe_survives_pickling_as_data_loader_workers_need() -> None:
    recipe = Recipe.from_dict(tomllib.loads(FULL))
    again = pickle.loads(pickle.dumps(recipe))
    assert again == recipe
    assert again.proto == recipe.proto


def test_the_message_handed_out_is_a_copy() -> None:
    recipe = Recipe(noise={"std": 3})
    recipe.proto.noise.std.low = 99
    assert recipe.proto.noise.std.low == 3


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"afine": {}}, "unknown recipe key 'afine'; did you mean 'affine'. allowed here: crop, affine, occlude"),
        ({"rotate_deg": 3}, "unknown recipe key 'rotate_deg'; did you mean 'affine.rotate_deg'"),
        ({"affine": {"rotate": 3}}, "unknown recipe key 'affine.rotate'; did you mean 'affine.rotate_deg'"),
        ({"affine": {"std": 3}}, "unknown recipe key 'affine.std'; did you mean 'noise.std'"),
        ({"occlude": {"keep_label": True}}, "unknown recipe key 'occlude.keep_label'; did you mean 'occlude.label'"),
        ({"noise": [0, 30]}, r"noise: got \[0, 30\]; allowed: a table of keys and values"),
        ({"noise": {"std": True}}, r"noise.std: got True; allowed: \[low, high\] or one number"),
        ({"noise": {"std": "0"}}, "noise.std: got '0'; allowed"),
        ({"noise": {"std": [0, 1, 2]}}, r"noise.std: got \[0, 1, 2\] of length 3; allowed: \[low, high\]"),
        ({"noise": {"std": [10**400, 1]}}, "noise.std: got a whole number of 1329 bits"),
        ({"affine": {"scale": [1, 2, 3, 4]}}, r"affine.scale: got \[1, 2, 3, 4\] of length 4; allowed: one range for all axes .* or three"),
        ({"affine": {"scale": [[1, 2], [1, 2]]}}, r"affine.scale: got \[1, 2\]; allowed: one range for all axes"),
        ({"affine": {"reflect": [0.5, 0.5]}}, r"affine.reflect: got \[0.5, 0.5\] of length 2; allowed: one number for all axes, or three"),
        ({"affine": {"probability": [0, 1]}}, r"affine.probability: got \[0, 1\]; allowed: a number"),
        ({"occlude": {"label": "kept"}}, "occlude.label: got 'kept'; allowed: a whole number or \"keep\""),
        ({"occlude": {"label": -1}}, "occlude.label: got -1; allowed: a whole number from 0"),
        ({"occlude": {"max_voxels": 2.5}}, "occlude.max_voxels: got 2.5; allowed: a whole number"),
        ({"occlude": {"max_voxels": True}}, "occlude.max_voxels: got True; allowed: a whole number"),
        ({"crop": {"pad": 1}}, "crop.pad: got 1; allowed: true or false"),
        ({"crop": {"mode": 1}}, "crop.mode: got 1; allowed: a text in quotes"),
        ({"crop": {"mode": "\ud800"}}, r"crop.mode: got '\\ud800'; allowed: a text in quotes"),
        ({"labels": {"keep": "liver"}}, "labels.keep: got 'liver'; allowed: a list of names"),
        ({"labels": {"keep": [1]}}, "labels.keep: got 1; allowed: a text in quotes"),
    ],
)
def test_a_wrong_key_or_type_is_refused_with_the_way_out(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe(**sections)


def test_a_file_that_is_no_recipe_is_refused_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    with pytest.raises(NotFoundError, match=r"recipe file '.*recipe.toml' does not exist"):
        Recipe.load(path)
    path.write_text("[noise\nstd = 3")
    with pytest.raises(RecipeError, match=r"recipe.toml' is not TOML: .*line 1"):
        Recipe.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match=r"recipe.toml' is not TOML"):
        Recipe.load(path)
    path.write_text("[noise]\nsdt = 3")
    with pytest.raises(RecipeError, match=r"recipe.toml': unknown recipe key 'noise.sdt'; did you mean 'noise.std'"):
        Recipe.load(path)
    with pytest.raises(RecipeError, match="cannot be read"):
        Recipe.load(tmp_path)
