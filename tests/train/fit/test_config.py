"""What a config may say, from a file, from options and from code; every slip is told with the nearest key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from augclient import Recipe
from augclient.errors import AugError, ConfigError, NotFoundError, PatchError, RecipeError
from augtrain.fit import FitConfig

WINDOW = {"window": {"low": -100, "high": 300}}
LEAST: dict[str, Any] = {"server": "h:1", "out": "run", "recipe": WINDOW, "batches": {"patch": [16, 24, 32]}}


def test_the_least_config_has_the_documented_defaults() -> None:
    config = FitConfig.from_table(LEAST)
    assert (config.server, config.out, config.batches.patch) == (("h:1",), Path("run"), (16, 24, 32))
    assert (config.network, config.loss, config.steps, config.augmentation.start) == ("unet3d", "iou", 1000, 0)
    assert config.recipe == Recipe(**WINDOW)


def test_a_file_is_read_with_paths_from_its_own_folder_and_options_win(tmp_path: Path) -> None:
    (tmp_path / "mild.toml").write_text("[window]\nlow = -100\nhigh = 300\n")
    (tmp_path / "run.toml").write_text(
        'server = ["a:1", "b:2"]\nout = "run"\nrecipe = "mild.toml"\nnetwork = "unet2d"\nsteps = 7\n'
        '[batches]\npatch = [4, 16, 32]\nsize = 3\n[optimizer]\nname = "sgd"\nlearning_rate = 1\n[augmentation]\nstart = "plateau"\n'
        '[loss]\nname = "dice"\nweighting = "square"\n'
    )
    config = FitConfig.load(tmp_path / "run.toml", {"steps": 9, "network.width": 0.5, "validation.fraction": 0.25})
    assert config.server == ("a:1", "b:2")
    assert config.recipe == Recipe(**WINDOW)
    assert (config.network, dict(config.network_options)) == ("unet2d", {"width": 0.5})
    assert (config.steps, config.batches.size, config.validation.fraction) == (9, 3, 0.25)
    assert config.optimizer.learning_rate == 1.0
    assert isinstance(config.optimizer.learning_rate, float)
    assert config.augmentation.start == "plateau"
    assert config.loss == {"name": "dice", "weighting": "square"}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"setps": 3}, ConfigError, "unknown key 'setps'; did you mean 'steps'"),
        ({"batches.pach": [1, 2, 3]}, ConfigError, "unknown key 'batches.pach'; did you mean 'patch'"),
        ({"optimizer.learning_rte": 0.1}, ConfigError, "did you mean 'learning_rate'"),
        ({"optimizer.name": "adm"}, ConfigError, "optimizer.name: got 'adm'; did you mean 'adam'"),
        ({"optimizer.learning_rate": 0}, ConfigError, "optimizer.learning_rate: got 0.0; allowed: above 0"),
        ({"optimizer.learning_rate": "fast"}, ConfigError, "allowed: a number"),
        ({"optimizer.learning_rate": True}, ConfigError, "allowed: a number"),
        ({"optimizer.learning_rate": float("nan")}, ConfigError, "allowed: a number"),
        ({"optimizer.momentum": 1.0}, ConfigError, r"momentum: got 1.0; allowed: \[0, 1\)"),
        ({"optimizer.clip_norm": -1}, ConfigError, "clip_norm"),
        ({"optimizer.precision": "float16"}, ConfigError, "did you mean 'float32'. allowed: float32, mixed_bfloat16, mixed_float16"),
        ({"learning_rate": 0.1}, ConfigError, "learning_rate: got 0.1; allowed: a table"),
        ({"learning_rate.rule": "platau"}, ConfigError, "did you mean 'plateau'"),
        ({"learning_rate.factor": 1.0}, ConfigError, "learning_rate.factor"),
        ({"augmentation.start": -1}, ConfigError, "augmentation.start: got -1"),
        ({"augmentation.start": "later"}, ConfigError, '"plateau"'),
        ({"augmentation.window": 0}, ConfigError, "augmentation.window"),
        ({"batches.patch": [16, 16]}, PatchError, "three whole numbers"),
        ({"batches.patch": [16, 16, 0]}, PatchError, "three whole numbers"),
        ({"batches.patch": 16}, ConfigError, "a list in brackets"),
        ({"batches.size": 2.5}, ConfigError, "batches.size: got 2.5; allowed: a whole number"),
        ({"batches.dtype": "float64"}, ConfigError, r"batches\.dtype: got 'float64'"),
        ({"validation.fraction": 1.0}, ConfigError, "validation.fraction"),
        ({"validation": {"fraction": 0.5, "fold": "0/2"}}, ConfigError, "one of them"),
        ({"checkpoints.every": 0}, ConfigError, "checkpoints.every"),
        ({"steps": 0}, ConfigError, "steps: got 0"),
        ({"seed": 1 << 32}, ConfigError, "seed"),
        ({"server": []}, ConfigError, "server"),
        ({"network": {"width": 2}}, ConfigError, "`name`"),
        ({"loss": 3}, ConfigError, "loss: got 3"),
        ({"recipe": {"noise": {"std": 3}}}, ConfigError, r"recipe: has no \[window\]"),
        ({"recipe": {"windw": {}}}, RecipeError, "did you mean 'window'"),
        ({"recipe": "nowhere.toml"}, NotFoundError, "nowhere.toml"),
    ],
)
def test_a_slip_is_told_before_anything_is_asked_of_a_server(changes: dict[str, Any], error: type[AugError], message: str) -> None:
    with pytest.raises(error, match=message):
        FitConfig.from_table(LEAST, changes)


@pytest.mark.parametrize("key", ["server", "out", "recipe", "batches"])
def test_what_is_missing_is_named(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{'batches.patch' if key == 'batches' else key}: got None"):
        FitConfig.from_table({name: value for name, value in LEAST.items() if name != key})


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"nothing\.toml"):
        FitConfig.load(tmp_path / "nothing.toml")
    (tmp_path / "broken.toml").write_text("steps = = 3")
    with pytest.raises(ConfigError, match="is not TOML"):
        FitConfig.load(tmp_path / "broken.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        FitConfig.load(tmp_path)
