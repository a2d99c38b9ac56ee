"""What the network sees of a volume, and which volumes, patches and classes it is not asked about."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from augclient import Dataset, Recipe, Server, Volume, VolumeInfo
from augclient.errors import AugError, ConfigError, NotFoundError, RecipeError, VolumeError, WireError
from augtrain.artifact import ModelCard
from augtrain.predict import NetworkSegmenter, PredictConfig, predict_volumes
from augtrain.predict.segmenter import check_dataset, check_volume, class_ids
from numpy.typing import NDArray

NO_SERVER = cast(Server, None)


def info(**fields: Any) -> VolumeInfo:
    known = {"id": "a", "shape": (1, 20, 30, 40), "dtype": "int16", "spacing_mm": (3.0, 3.0, 3.0), "affine": np.eye(4)}
    return VolumeInfo(**known | {"has_label": False, "class_voxels": {}} | fields)


def test_the_network_sees_the_window_and_outside_it_the_fill(card: ModelCard) -> None:
    image = np.random.default_rng(8).integers(-1500, 1500, (1, 5, 30, 40)).astype(np.int16)
    seen: list[NDArray[np.float32]] = []

    def keep(tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(tiles.copy())
        return np.concatenate([tiles, 1 - tiles, 0 * tiles], axis=-1)

    told: list[tuple[int, int]] = []
    segmenter = NetworkSegmenter(keep, dataclasses.replace(card, fill=-500.0), PredictConfig(patch=(8, 30, 40)))
    volume = Volume(info=info(shape=(1, 5, 30, 40)), image=image, label=None)
    probabilities = segmenter(NO_SERVER, volume, lambda done, total: told.append((done, total)))
    expected = (np.clip(image[0], -1000, 1000) + 1000.0) / 2000
    np.testing.assert_allclose(probabilities[..., 0], expected, atol=1e-6)
    np.testing.assert_allclose(seen[0][0, 1:6, ..., 0], expected, atol=1e-6)
    np.testing.assert_allclose(seen[0][0, [0, 6, 7]], 0.25)
    assert told == [(1, 1)]


def test_without_a_window_the_network_sees_the_unit_itself(card: ModelCard) -> None:
    image = np.full((1, 16, 24, 32), -321, np.int16)
    segmenter = NetworkSegmenter(lambda tiles: np.repeat(tiles, 2, -1), dataclasses.replace(card, window=None), PredictConfig())
    volume = Volume(info=info(shape=(1, 16, 24, 32)), image=image, label=None)
    assert (segmenter(NO_SERVER, volume, lambda done, total: None) == -321).all()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"shape": (2, 20, 30, 40)}, "2 channels, the model was trained on 1"),
        ({"spacing_mm": (3.0, 3.0, 2.5)}, "3x3x2.5 mm.*--spacing-mm 3,3,3"),
    ],
)
def test_volumes_of_another_kind_are_refused(card: ModelCard, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(VolumeError, match=words):
        check_volume(info(**fields), card)


def test_a_model_of_several_spacings_takes_every_one(card: ModelCard) -> None:
    check_volume(info(spacing_mm=(1.0, 0.5, 0.5)), dataclasses.replace(card, spacing_mm=None))


def test_another_modality_is_refused(card: ModelCard) -> None:
    dataset = Dataset(fingerprint="", modality="mr", volumes=(), classes={}, class_voxels={}, spacing_mm=None, infos={}, quarantined={})
    with pytest.raises(ConfigError, match="holds mr and the model was trained on ct"):
        check_dataset(dataset, card)


def test_a_server_cannot_have_files_written_elsewhere(card: ModelCard, tmp_path: Path) -> None:
    class Foreign:
        def dataset(self) -> Dataset:
            infos = {"../evil": info(id="../evil")}
            return Dataset(
                fingerprint="",
                modality="ct",
                volumes=("../evil",),
                classes={},
                class_voxels={},
                spacing_mm=None,
                infos=infos,
                quarantined={},
            )

    segmenter = NetworkSegmenter(lambda tiles: tiles, card, PredictConfig())
    with pytest.raises(WireError, match="evil"):
        list(predict_volumes(cast(Server, Foreign()), None, segmenter, tmp_path / "out", PredictConfig()))
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_class_is_refused_and_the_nearest_named(card: ModelCard) -> None:
    assert class_ids(card, None) == (1, 2)
    assert class_ids(card, ("bone",)) == (2,)
    with pytest.raises(NotFoundError, match="did you mean 'bone'"):
        class_ids(card, ("bones",))


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"overlap": 1.0}, ConfigError),
        ({"weighting": "conical"}, ConfigError),
        ({"batch_size": 0}, ConfigError),
        ({"transforms": -1}, ConfigError),
        ({"transforms": 1, "recipe": Recipe(noise={"std": 1})}, RecipeError),
    ],
)
def test_settings_without_meaning_are_refused(fields: dict[str, Any], error: type[AugError]) -> None:
    with pytest.raises(error):
        PredictConfig(**fields)


def test_a_picture_shows_what_was_found_in_all_three_planes(tmp_path: Path) -> None:
    from augtrain.predict.picture import save_picture
    from PIL import Image

    label = np.zeros((30, 40, 50), np.uint8)
    label[5:15, 8:20, 10:40] = 3
    image = np.where(label > 0, 60, -1000).astype(np.int16)
    save_picture(tmp_path / "new" / "a.png", image, label, (3.0, 1.0, 1.0), {0: "background", 3: "liver"}, title="a", window=(-200, 300))
    drawn = np.asarray(Image.open(tmp_path / "new" / "a.png").convert("RGB")).astype(int)
    coloured = np.ptp(drawn, axis=-1) > 40
    thirds = np.array_split(coloured[: drawn.shape[0] * 8 // 10], 3, axis=1)
    assert all(third.mean() > 0.02 for third in thirds)
    save_picture(tmp_path / "none.png", image, label * 0, (3.0, 1.0, 1.0), {0: "background", 3: "liver"}, title="a", window=None)
    assert (np.ptp(np.asarray(Image.open(tmp_path / "none.png").convert("RGB")).astype(int), axis=-1) <= 40).all()
