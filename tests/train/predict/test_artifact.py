"""A saved model comes back as it was; a folder that holds anything else is refused by name."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from augclient.errors import AugError, NotFoundError, StateError
from augtrain.artifact import ModelCard, load_model, read_card, save_model
from augtrain.artifact.folder import CARD

CARD_OF_TOY = ModelCard(
    network="toy",
    network_options={"width": 0.5},
    classes={0: "background", 2: "leber", 5: "Lunge"},
    channels=1,
    patch=(8, 16, 24),
    spacing_mm=(3.0, 2.5, 2.0),
    modality="ct",
    window=(-1000.0, 400.0),
    fill=-1000.0,
    loss="iou:power=2",
    trained_steps=17,
    fingerprint="ab" * 32,
    version="0.1.0",
)


class Toy:
    """As much of a Keras model as is saved: one line of text for weights."""

    def __init__(self, weights: str) -> None:
        self.weights = weights

    def save_weights(self, path: Path) -> None:
        path.write_text(self.weights)

    def load_weights(self, path: Path) -> None:
        text = path.read_text()
        if len(text) != len(self.weights):
            raise ValueError(f"due are {len(self.weights)} weights, got {len(text)}")
        self.weights = text


def build_toy(classes: int, *, channels: int, width: float) -> Toy:
    return Toy("0" * int(classes * channels * 2 * width))


NETWORKS: dict[str, Callable[..., Any]] = {"toy": build_toy}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved model."""
    save_model(tmp_path / "run" / "model", Toy("123456"), CARD_OF_TOY)
    return tmp_path / "run" / "model"


def test_model_and_card_come_back(folder: Path) -> None:
    model, card = load_model(folder, networks=NETWORKS)
    assert model.weights == "123456"
    assert card == CARD_OF_TOY
    assert card.outputs == 6


def test_a_second_save_replaces_the_first_and_leaves_nothing_of_it(folder: Path) -> None:
    (folder / ".saving").mkdir()
    (folder / ".saving" / "new.weights.h5").write_text("of a save that was killed")
    (folder / "notes.txt").write_text("mine")
    later = dataclasses.replace(CARD_OF_TOY, trained_steps=18, spacing_mm=None, window=None)
    save_model(folder, Toy("654321"), later)
    model, card = load_model(folder, networks=NETWORKS)
    assert (model.weights, card) == ("654321", later)
    assert sorted(re.sub("[0-9a-f]{12}", "#", file.name) for file in folder.iterdir()) == [CARD, "model-#.weights.h5", "notes.txt"]


@pytest.mark.parametrize("renames", [0, 1])
def test_a_save_that_dies_leaves_the_model_of_before(folder: Path, monkeypatch: pytest.MonkeyPatch, renames: int) -> None:
    """The process ends before the weights, or before the card, take their places."""
    left = [renames]
    replace = Path.replace

    def die(self: Path, target: Path) -> Path:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        save_model(folder, Toy("654321"), dataclasses.replace(CARD_OF_TOY, trained_steps=99))
    monkeypatch.undo()
    model, card = load_model(folder, networks=NETWORKS)
    assert (model.weights, card) == ("123456", CARD_OF_TOY)
    save_model(folder, Toy("654321"), CARD_OF_TOY)
    assert load_model(folder, networks=NETWORKS)[0].weights == "654321"


def change(**values: Any) -> Callable[[Path], None]:
    """Put other values into the card."""

    def apply(folder: Path) -> None:
        document = json.loads((folder / CARD).read_text())
        (folder / CARD).write_text(json.dumps({key: value for key, value in (document | values).items() if value != "absent"}))

    return apply


def weights_of(folder: Path) -> Path:
    return next(folder.glob("model-*.weights.h5"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / CARD).unlink(), "has no card.json"),
        (lambda folder: (folder / CARD).write_text((folder / CARD).read_text()[:-9]), "cannot be read"),
        (lambda folder: (folder / CARD).write_bytes(b"\xff\xfe"), "cannot be read"),
        (lambda folder: (folder / CARD).write_text("[1, 2]"), "format 'list'"),
        (change(format=2), "format 2"),
        (change(network="toi"), "'toi', which augtrain does not have; the nearest is 'toy'"),
        (change(network_options={"depth": 3}), "depth"),
        (change(network_options={"width": 1.0}), "do not fit the network 'toy'"),
        (change(network_options=[1]), "network_options"),
        (change(classes={"0": "background"}), "classes"),
        (change(classes={"0": "background", "300": "x"}), "classes"),
        (change(classes={"0": "background", "one": "x"}), "wrong kind"),
        (change(classes=[]), "wrong kind"),
        (change(patch=[8, 16]), "patch"),
        (change(patch=None), "wrong kind"),
        (change(patch=[8, 16, 2.5]), "patch"),
        (change(spacing_mm=[3, 3, 0]), "spacing_mm"),
        (change(window=[400, -1000]), "window"),
        (change(channels=True), "channels"),
        (change(modality="pet"), "modality"),
        (change(fill="air"), "fill"),
        (change(trained_steps=-1), "trained_steps"),
        (change(loss=None), "loss"),
        (change(fingerprint="absent"), "has no fingerprint"),
        (change(weights="../../elsewhere.h5"), "no name that a save gives"),
        (lambda folder: weights_of(folder).write_text("123457"), "are damaged"),
        (lambda folder: weights_of(folder).unlink(), "cannot be read"),
    ],
)
def test_a_damaged_folder_is_refused_by_what_is_wrong_with_it(folder: Path, damage: Callable[[Path], object], words: str) -> None:
    damage(folder)
    with pytest.raises(StateError, match=re.escape(words)):
        load_model(folder, networks=NETWORKS)


def test_the_folder_of_a_run_points_to_its_model(folder: Path) -> None:
    with pytest.raises(StateError, match=re.escape(f"did you mean {folder}?")):
        read_card(folder.parent)


@pytest.mark.parametrize("name", ["absent", "run/model/card.json"])
def test_what_is_no_folder_is_not_found(folder: Path, name: str) -> None:
    with pytest.raises(NotFoundError, match="no such folder"):
        read_card(folder.parent.parent / name)


def test_a_folder_that_cannot_be_written_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AugError, match="cannot be saved"):
        save_model(tmp_path / "file" / "model", Toy("1"), CARD_OF_TOY)
