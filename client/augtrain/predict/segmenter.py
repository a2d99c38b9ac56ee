"""From a volume in its own unit to class probabilities, by a trained network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from augclient import Dataset, Server, Volume, VolumeInfo
from augclient.errors import ConfigError, NotFoundError, PatchError, VolumeError
from augclient.nearest import did_you_mean
from numpy.typing import NDArray

from augtrain.artifact import ModelCard, load_model
from augtrain.predict.predict_config import PredictConfig
from augtrain.predict.test_time import average_over_transforms
from augtrain.sliding_window import Predict, Probabilities, count_tiles, predictor, segment

OnTile = Callable[[int, int], None]

_SPACING_SLACK = 0.01  # of the spacing; ingest resamples to far less


class Segmenter(Protocol):
    """What turns a volume into probabilities; tests put the truth in its place."""

    card: ModelCard

    def __call__(self, server: Server, volume: Volume, on_tile: OnTile) -> Probabilities:
        """float32 (Z, Y, X, K) of a volume of `server`; tells on_tile of (tiles done, all tiles)."""


class NetworkSegmenter:
    """A trained network, tile by tile.

    Args:
        predict: see augtrain.sliding_window.segment.
        card: of the network.
        config: see PredictConfig.
    Raises:
        NotFoundError: a class that the network does not know.
    """

    def __init__(self, predict: Predict, card: ModelCard, config: PredictConfig) -> None:
        self.card = card
        self._predict = predict
        self._config = config
        self._patch = config.patch or card.patch
        class_ids(card, config.classes)

    @classmethod
    def load(cls, folder: str | Path, config: PredictConfig) -> NetworkSegmenter:
        """The network that `augtrain fit` saved.

        Raises:
            NotFoundError, StateError: see augtrain.artifact.load_model, and the constructor.
            PatchError: a patch that the network's strides forbid.
        """
        from augtrain.models import NETWORKS

        model, card = load_model(folder)
        network = NETWORKS[card.network]
        patch = network.check_patch(config.patch or card.patch)
        if network.dimensions == 2 and patch[0] != 1:
            raise PatchError(f"{card.network} sees planes: the patch must be 1 voxel deep, got {patch} (Z, Y, X)")
        _check_input(model, card, patch)
        return cls(predictor(model), card, config)

    def __call__(self, server: Server, volume: Volume, on_tile: OnTile) -> Probabilities:
        """float32 (Z, Y, X, K); memory: that, the windowed image (float32), and what segment and test_time say."""
        tiles = count_tiles(volume.image.shape[1:], self._patch, overlap=self._config.overlap)
        rounds = 1 + self._config.transforms
        begun = 0

        def one_image(image: NDArray[np.float32]) -> Probabilities:
            nonlocal begun
            before, begun = begun, begun + tiles
            return segment(
                self._predict,
                np.moveaxis(self._windowed(image), 0, -1),
                self._patch,
                overlap=self._config.overlap,
                weighting=self._config.weighting,
                batch_size=self._config.batch_size,
                pad_value=float(self._windowed(np.full(1, self.card.fill, np.float32))[0]),
                on_tile=lambda done, _: on_tile(before + done, tiles * rounds),
            )

        if not self._config.transforms:
            return one_image(np.asarray(volume.image, np.float32))
        return average_over_transforms(server, volume, self._config.transforms, self._config.recipe, self.card.fill, one_image)

    def _windowed(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """As the server gave it to the training: window to [0, 1], clamped."""
        if self.card.window is None:
            return values
        low, high = self.card.window
        windowed: NDArray[np.float32] = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
        return windowed


def class_ids(card: ModelCard, names: tuple[str, ...] | None) -> tuple[int, ...]:
    """The ids of named classes; all but background where none are named.

    Raises:
        NotFoundError: the network does not know a class; names the nearest.
    """
    known = {name: id for id, name in card.classes.items() if id}
    for name in names or ():
        if name not in known:
            raise NotFoundError(f"the model knows no class {name!r}; {did_you_mean(name, known)}It knows {', '.join(known)}")
    return tuple(known[name] for name in names) if names else tuple(known.values())


def check_dataset(dataset: Dataset, card: ModelCard) -> None:
    """Refuse a server of another modality.

    Raises:
        ConfigError: it holds MR and the network learnt from CT, or the reverse.
    """
    if dataset.modality != card.modality:
        raise ConfigError(f"the server holds {dataset.modality} and the model was trained on {card.modality}; use a model of its modality")


def check_volume(info: VolumeInfo, card: ModelCard) -> None:
    """Refuse a volume that the network cannot make sense of.

    Raises:
        VolumeError: other channels or another spacing than in the training.
    """
    if info.shape[0] != card.channels:
        raise VolumeError(f"{info.id}: has {info.shape[0]} channels, the model was trained on {card.channels}")
    if card.spacing_mm is not None and not np.allclose(info.spacing_mm, card.spacing_mm, rtol=_SPACING_SLACK, atol=0):
        got, due = ("x".join(f"{step:.4g}" for step in spacing) for spacing in (info.spacing_mm, card.spacing_mm))
        way_out = ",".join(f"{step:.6g}" for step in card.spacing_mm)
        raise VolumeError(
            f"{info.id}: has voxels of {got} mm (z, y, x), the model was trained on {due}: predict the scan itself, or serve a dataset "
            f"of `augserver ingest --spacing-mm {way_out}`"
        )


def _check_input(model: Any, card: ModelCard, patch: tuple[int, int, int]) -> None:
    """Refuse a patch that a network built for one size cannot take."""
    fixed = (None, *(model.input_shape[1:-1] if len(model.input_shape) == 5 else (1, *model.input_shape[1:-1])))[1:]
    if any(side not in (None, wanted) for side, wanted in zip(fixed, patch, strict=True)):
        raise PatchError(f"this {card.network} was built for patches of {fixed} (Z, Y, X) and no others, got {patch}; leave --patch out")
