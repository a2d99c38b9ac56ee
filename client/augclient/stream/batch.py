"""What a stream delivers: arrays, and for every sample all that was drawn for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augclient.contract import BORDERS, LABEL_RULES
from augclient.errors import StateError, WireError
from augclient.recipe import plain_values
from augclient.wire.v1 import augserver_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedStep:
    """What a step of a recipe did to one sample.

    Attributes:
        op: its name.
        fired: whether it applied; if not, the rest is empty.
        channels: those that it changed; of a spatial step none.
        values: name -> value, none of them a range; with "per_channel", drawn ones have an entry for every channel.
    """

    op: str
    fired: bool
    channels: tuple[int, ...]
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Provenance of one sample: enough to compute it again.

    Attributes:
        index, epoch, volume: its address; `volume` is the id.
        replaces: id of the volume that was planned, where the server found it damaged and took `volume` instead; else None.
        affine: float32 (3, 4), zyx: output voxel -> input voxel.
        fill: value outside the volume and inside the slab, in the volume's unit, before the window.
        noise_std, noise_key: of the Gaussian noise, in the volume's unit; the key is 64-bit.
        window: (low, high) that became [0, 1]; None: the image is in the volume's unit.
        occlusion: (z0, z1) of the slab, half open, in output voxels; None: no slab.
        contrast, brightness, gamma: factor, offset, exponent; 1, 0, 1 do nothing.
        label_rule: "nearest" or "linear".
        outside_label: label of what lies outside the volume, where border is "fill".
        border: "fill" or "edge".
        fills: one fill for each channel, in place of `fill`; None: `fill` for all.
        steps: of a recipe of steps, what each did, in order; the spatial ones are in `affine`.
    """

    index: int
    epoch: int
    volume: str
    affine: NDArray[np.float32]
    fill: float
    noise_std: float
    noise_key: int
    window: tuple[float, float] | None
    occlusion: tuple[int, int] | None
    contrast: float
    brightness: float
    gamma: float
    replaces: str | None = None
    label_rule: str = LABEL_RULES[0]
    outside_label: int = 0
    border: str = BORDERS[0]
    fills: tuple[float, ...] | None = None
    steps: tuple[AppliedStep, ...] = ()


class Batch:
    """One batch; its arrays are the reader's own until the last reference to them is gone.

    Attributes:
        step: its number in the stream's address space.
        samples: provenance, one per sample.
    """

    __slots__ = ("_image", "_label", "samples", "step")

    def __init__(self, step: int, image: NDArray[Any], label: NDArray[np.uint8] | None, samples: tuple[Sample, ...]) -> None:
        self.step = step
        self.samples = samples
        self._image: NDArray[Any] | None = image
        self._label = label

    @property
    def image(self) -> NDArray[Any]:
        """float32, float16 or uint8 (N, C, Z, Y, X), 64-byte aligned; read-only in shared memory unless stream(writable=True)."""
        return self._held()

    @property
    def label(self) -> NDArray[np.uint8] | None:
        """uint8 (N, Z, Y, X); None where the dataset has no labels."""
        self._held()
        return self._label

    def release(self) -> None:
        """Let go of the arrays now rather than with the last reference to this batch; twice is fine.

        Arrays and views taken from it before stay valid.
        """
        self._image = self._label = None

    def _held(self) -> NDArray[Any]:
        if self._image is None:
            raise StateError(f"batch {self.step} was released; take its arrays before release(), or do not release it")
        return self._image

    def __repr__(self) -> str:
        what = "released" if self._image is None else f"image {self._image.dtype} {self._image.shape}"
        return f"Batch(step={self.step}, {what})"


def samples_from_proto(messages: Any) -> tuple[Sample, ...]:
    """Provenance of the samples of a BatchHeader; WireError where one is malformed."""
    return tuple(_sample(message) for message in messages)


def _sample(message: pb.Sample) -> Sample:
    if len(message.affine) != 12:
        raise WireError(f"sample {message.index} came with an affine of {len(message.affine)} numbers; 12 are due")
    windowed = message.HasField("window_low") and message.HasField("window_high")
    occluded = message.HasField("occlusion_start") and message.HasField("occlusion_stop")
    return Sample(
        index=message.index,
        epoch=message.epoch,
        volume=message.volume,
        affine=np.array(message.affine, np.float32).reshape(3, 4),
        fill=message.fill,
        noise_std=message.noise_std,
        noise_key=message.noise_key,
        window=(message.window_low, message.window_high) if windowed else None,
        occlusion=(message.occlusion_start, message.occlusion_stop) if occluded else None,
        contrast=message.contrast,
        brightness=message.brightness,
        gamma=message.gamma,
        replaces=message.replaces or None,
        label_rule=message.label_rule or LABEL_RULES[0],
        outside_label=message.outside_label,
        border=message.border or BORDERS[0],
        fills=tuple(message.fills) or None,
        steps=tuple(
            AppliedStep(op=step.op, fired=step.fired, channels=tuple(step.channels), values=plain_values(step.values))
            for step in message.steps
        ),
    )
