"""What is known of a trained network besides its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from augclient.errors import StateError

MODALITIES = ("ct", "mr")
ORIENTATIONS = ("lps", "file")  # of `augserver ingest --orientation`


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What is known of a trained network besides its weights.

    Attributes:
        network: its name in augtrain.models.NETWORKS.
        network_options: JSON-able keyword arguments of its builder, besides `classes` and `channels`.
        classes: label id -> name; 0 is background. The network's output k is the probability of id k.
        channels: of the image.
        patch: (Z, Y, X) that it was trained on; Z = 1 for a 2-D network.
        spacing_mm: zyx, of the volumes that it was trained on; None: of several, so that a scan keeps its own.
        modality: "ct" or "mr".
        window: (low, high) in the image's unit, mapped to [0, 1] and clamped before the network; None: the unit itself.
        fill: the value outside a volume, in the image's unit.
        loss: as `augtrain fit --loss` had it.
        trained_steps: how many batches it has seen.
        fingerprint: of the dataset.
        version: of augserver-client that trained it.
        orientation: "lps" if all volumes had their axes to Superior, Posterior, Left, "file" if some kept those of their files.
    """

    network: str
    network_options: dict[str, Any]
    classes: dict[int, str]
    channels: int
    patch: tuple[int, int, int]
    spacing_mm: tuple[float, float, float] | None
    modality: str
    window: tuple[float, float] | None
    fill: float
    loss: str
    trained_steps: int
    fingerprint: str
    version: str
    orientation: str = "lps"

    def __post_init__(self) -> None:
        """Refuse what no training writes.

        Raises:
            StateError: names the field.
        """
        ids = list(self.classes)
        _require(isinstance(self.network_options, dict), "network_options", self.network_options, "a table of builder arguments")
        _require(
            all(isinstance(id, int) and 0 <= id <= 255 for id in ids) and 0 in ids and len(ids) > 1,
            "classes",
            self.classes,
            "ids 0 to 255 with names, 0 and at least one more",
        )
        _require(all(isinstance(name, str) for name in self.classes.values()), "classes", self.classes, "names that are text")
        _require(_whole(self.channels, 1), "channels", self.channels, "a whole number >= 1")
        _require(len(self.patch) == 3 and all(_whole(side, 1) for side in self.patch), "patch", self.patch, "three whole numbers >= 1")
        if self.spacing_mm is not None:
            positive = len(self.spacing_mm) == 3 and all(_number(step) and step > 0 for step in self.spacing_mm)
            _require(positive, "spacing_mm", self.spacing_mm, "three numbers > 0, or null")
        _require(self.modality in MODALITIES, "modality", self.modality, " or ".join(MODALITIES))
        _require(self.orientation in ORIENTATIONS, "orientation", self.orientation, " or ".join(ORIENTATIONS))
        if self.window is not None:
            rising = len(self.window) == 2 and all(map(_number, self.window)) and self.window[0] < self.window[1]
            _require(rising, "window", self.window, "two numbers, low < high, or null")
        _require(_number(self.fill), "fill", self.fill, "a number")
        _require(_whole(self.trained_steps, 0), "trained_steps", self.trained_steps, "a whole number >= 0")
        for field in ("network", "loss", "fingerprint", "version"):
            _require(isinstance(getattr(self, field), str), field, getattr(self, field), "text")

    @property
    def outputs(self) -> int:
        """How many classes the network tells apart: ids from 0 to the largest."""
        return max(self.classes) + 1


def card_from_document(document: Mapping[str, Any]) -> ModelCard:
    """The card that was written as JSON, which has made lists of its tuples and text of its ids.

    Raises:
        StateError: a value is missing or not allowed.
    """
    document = {"orientation": "lps", **document}  # which cards of before do not have
    names = [field.name for field in fields(ModelCard)]
    missing = [name for name in names if name not in document]
    if missing:
        raise StateError(f"model card: has no {', '.join(missing)}")
    values = {name: document[name] for name in names}
    try:
        values["classes"] = {int(id): name for id, name in values["classes"].items()}
        for name in ("patch", "spacing_mm", "window"):
            values[name] = None if values[name] is None else tuple(values[name])
        return ModelCard(**values)
    except (AttributeError, TypeError, ValueError) as error:
        raise StateError(f"model card: values of the wrong kind ({error})") from error


def _require(holds: bool, field: str, got: object, allowed: str) -> None:
    if not holds:
        raise StateError(f"model card: {field} is {got!r}; allowed: {allowed}")


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
