"""Every parameter of one augmented sample: what the kernel needs and what provenance returns.

Made by augment/ from a draw and a volume's geometry; read by kernel/ (which applies it) and service/ (which sends it back).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from augserver.augment.step_rules import AppliedStep


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleParams:
    """Parameters of one sample.

    Attributes:
        index, epoch, volume: its address; `volume` is the id.
        affine: float32 (3, 4), zyx: output voxel -> input voxel.
        fill: value outside the volume and inside the occluded slab, in the volume's unit; it goes through the window.
        fills: one for each channel, in place of `fill`; None: `fill` for all.
        border: "fill": what lies outside the volume is `fill`, or `outside_label`; "edge": it is the nearest voxel inside.
        tap_limits: (low, high) for each channel: its voxels are clamped to them before they are interpolated, `fill` is not; None: none.
        label_rule: "nearest"; or "linear", the label with the largest sum of trilinear weights among the eight voxels around the place; of
            equal sums that of the nearest voxel, else the lowest label (batchgeneratorsv2 0.3.6).
        outside_label: label of all voxels outside the volume under the border "fill": "nearest" has it where the nearest voxel lies
            outside, "linear" gives it the weights of the taps outside. `keep_labels` does not touch it.
        ignore_label: label that stays itself inside the slab, whatever `occlusion_label` says; None: there is none.
        contrast, pivot, brightness: v -> pivot + contrast (v - pivot) + brightness, in the volume's unit.
        gamma: exponent on the window's [0, 1]; values outside the window keep; 1.0 does nothing; needs `window`.
        noise_std: of Gaussian noise in the volume's unit; 0.0: none.
        noise_key: 64-bit Philox key.
        window: (low, high), low < high, mapped to [0, 1] and clamped; None: the output is in the volume's unit.
        occlusion: (z0, z1) output voxels, half open, 0 <= z0 < z1 <= Z; None: no slab. Inside it: fill through the window,
            no intensity change, no noise.
        occlusion_label: label inside the slab; None keeps the label.
        keep_labels: label ids that survive, all others become 0; None: all survive.
        replaces: id of the damaged volume in whose place `volume` is; "": the sample is of the volume that was planned.
        steps: of a recipe of steps, in order; the spatial ones are in `affine`, and contrast to occlusion have their defaults then.
        sampler: "exact", or "texture": a GPU's filtering units, faster perhaps and not the same bits; one for all samples of a batch.
    """

    index: int = 0
    epoch: int = 0
    volume: str = ""
    replaces: str = ""
    affine: NDArray[np.float32]
    fill: float = 0.0
    fills: tuple[float, ...] | None = None
    border: str = "fill"
    tap_limits: tuple[tuple[float, float], ...] | None = None
    label_rule: str = "nearest"
    outside_label: int = 0
    ignore_label: int | None = None
    contrast: float = 1.0
    pivot: float = 0.0
    brightness: float = 0.0
    gamma: float = 1.0
    noise_std: float = 0.0
    noise_key: int = 0
    window: tuple[float, float] | None = None
    occlusion: tuple[int, int] | None = None
    occlusion_label: int | None = 0
    keep_labels: frozenset[int] | None = None
    steps: tuple[AppliedStep, ...] = ()
    sampler: str = "exact"
