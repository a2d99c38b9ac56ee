"""CT-like torsos made of formulas: something to serve, look at and train on where no scan is at hand.

Skin, fat, muscle, lungs with vessels, heart, aorta, stomach, spleen, bowel, spine, ribs, pelvis, liver, kidneys and bladder, in HU, with
the noise and the blur of a scanner and the couch under the patient. Each seed is another patient: size, proportions, positions of
organs, contrast agent. Labels are those of the dataset of Rister et al. 2018. Not an anatomical model, and nothing to
draw medical conclusions from.

Positions are in mm: x to the patient's left, y to the back, z to the head; x = y = 0 is the body's axis, z = 0 the height of the hips.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

CLASSES = {0: "background", 1: "liver", 2: "bladder", 3: "lungs", 4: "kidneys", 5: "bone"}
LIVER, BLADDER, LUNGS, KIDNEYS, BONE = 1, 2, 3, 4, 5

Field = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

_AIR, _FAT, _MUSCLE = -1000.0, -100.0, 50.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Torso:
    """One torso.

    Attributes:
        image: int16 (1, Z, Y, X), HU.
        label: uint8 (Z, Y, X), ids of CLASSES.
        spacing_mm: zyx.
        affine: float64 (4, 4), zyx voxel -> xyz LPS mm.
    """

    image: NDArray[np.int16]
    label: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]
    affine: NDArray[np.float64]


def make_torso(seed: int, shape: tuple[int, int, int] = (130, 120, 140), spacing_mm: float = 3.0) -> Torso:
    """A torso of its own anatomy; about a second at the default size.

    Args:
        seed: of the patient.
        shape: (Z, Y, X); at the default spacing 390 x 360 x 420 mm, from the thighs to the shoulders.
        spacing_mm: of all axes.
    """
    rng = default_rng(seed)
    canvas = _Canvas(rng, shape, spacing_mm)
    _paint_body(canvas)
    _paint_abdomen(canvas)
    _paint_chest(canvas)
    _paint_skeleton(canvas)
    affine = np.zeros((4, 4))
    affine[[0, 1, 2, 3], [2, 1, 0, 3]] = spacing_mm, spacing_mm, spacing_mm, 1.0
    affine[:3, 3] = canvas.x.min(), canvas.y.min(), canvas.z.min()
    return Torso(image=_scan(canvas.image, rng), label=canvas.label, spacing_mm=(spacing_mm,) * 3, affine=affine)


class _Canvas:
    """Image and label under construction, and this patient's coordinates and proportions."""

    def __init__(self, rng: Generator, shape: tuple[int, int, int], spacing_mm: float) -> None:
        self.rng = rng
        z, y, x = (((np.arange(n) - (n - 1) / 2) * spacing_mm).astype(np.float32) for n in shape)
        self.z, self.y, self.x = (z + 155.0)[:, None, None], y[None, :, None], x[None, None, :]
        self.image = np.full(shape, _AIR, np.float32)
        self.label = np.zeros(shape, np.uint8)
        self.girth = rng.uniform(0.9, 1.12)
        self.fat_mm = rng.uniform(8.0, 26.0)
        self.contrast = rng.uniform(0.0, 1.0)  # of the agent, from none to full
        self.inner: Field = np.zeros(shape, np.float32)  # mm below the surface of the muscle; _paint_body sets both
        self.diaphragm: Field = self.inner  # its height in mm
        # bent coordinates: organs are simple bodies in a space that is gently warped
        bend = [1.0 / (70.0, 90.0, 110.0)[k % 3] for k in range(6)]
        self.wz = self.z + 5.0 * self.wave(bend[0]) + rng.uniform(-8, 8)
        self.wy = self.y + 4.0 * self.wave(bend[1])
        self.wx = self.x / np.float32(self.girth) + 4.0 * self.wave(bend[2])

    def wave(self, frequency: float) -> Field:
        """A smooth random field of about unit size; `frequency` in 1 / mm. Products of axes' waves: no transcendental per voxel."""
        field = np.zeros(self.image.shape, np.float32)
        for _ in range(3):
            direction = self.rng.normal(size=3)
            kz, ky, kx = 2 * np.pi * frequency * direction / np.linalg.norm(direction)
            phase = np.exp(1j * (kz * self.z + self.rng.uniform(0, 2 * np.pi))).astype(np.complex64)
            in_plane = (np.exp(1j * ky * self.y) * np.exp(1j * kx * self.x)).astype(np.complex64)
            field += phase.real * in_plane.real - phase.imag * in_plane.imag
        return field / np.float32(1.5)

    def about(self, *position_mm: float, spread_mm: float = 4.0) -> tuple[float, ...]:
        """A position (z, y, x), displaced as anatomy varies."""
        return tuple(float(p + self.rng.uniform(-spread_mm, spread_mm)) for p in position_mm)

    def ellipsoid(self, centre: tuple[float, ...], axes: tuple[float, float, float], size: float = 1.0) -> Field:
        """Squared radius, 1 on the surface, in the bent space; centre and half axes (z, y, x) in mm."""
        (cz, cy, cx), (az, ay, ax) = centre, (a * size for a in axes)
        return ((self.wz - cz) / az) ** 2 + ((self.wy - cy) / ay) ** 2 + ((self.wx - cx) / ax) ** 2

    def tube(self, y: Field | float, x: Field | float, radius_mm: float) -> Field:
        """Squared distance over squared radius from a line along z; y and x may depend on z."""
        return ((self.wy - y) ** 2 + (self.wx - x) ** 2) / np.float32(radius_mm**2)

    def paint(self, where: Mask, hu: Field | float, label: int | None = None) -> None:
        """Give the voxels a value and, if one is named, a label; None clears it."""
        np.copyto(self.image, np.float32(hu) if isinstance(hu, float) else hu, where=where)
        self.label[where] = label or 0

    def paint_bone(self, squared_radius: Field, within: Mask | bool = True) -> None:
        """A bone: bright cortex around spongy marrow."""
        bone = (squared_radius < 1.0) & within
        self.paint(bone, np.where(squared_radius > 0.45, np.float32(680.0), np.float32(260.0)), BONE)

    def capsule(self, start: tuple[float, ...], stop: tuple[float, ...], radius_mm: float) -> Field:
        """Squared distance over squared radius from a segment (z, y, |x|): one on either side of the body."""
        offsets = [w - s for w, s in zip((self.wz, self.wy, np.abs(self.wx)), start, strict=True)]
        along = [float(e - s) for s, e in zip(start, stop, strict=True)]
        share = sum(o * np.float32(a) for o, a in zip(offsets, along, strict=True)) / np.float32(sum(a * a for a in along))
        share = np.clip(share, 0.0, 1.0)
        squared = sum((o - share * np.float32(a)) ** 2 for o, a in zip(offsets, along, strict=True))
        return np.asarray(squared / np.float32(radius_mm**2), np.float32)


def _paint_body(c: _Canvas) -> None:
    """Couch, skin, fat and muscle; sets the canvas's depth below the muscle's surface and the diaphragm's height."""
    heights = [-60.0, 0.0, 90.0, 200.0, 300.0, 350.0]
    across = np.interp(c.z, heights, [165, 168, 140, 152, 160, 165]) * c.girth + c.fat_mm * 0.5
    through = np.interp(c.z, heights, [100, 106, 90, 104, 106, 90]) * c.girth + c.fat_mm * 0.7
    couch_y = float(through.max()) + 9.0 - 0.0006 * c.x**2
    c.paint(np.broadcast_to((np.abs(c.y - couch_y) < 4.0) & (np.abs(c.x) < 190.0), c.image.shape), -180.0)
    radius = (np.abs(c.x / across.astype(np.float32)) ** 2.4 + np.abs(c.y / through.astype(np.float32)) ** 2.4) ** np.float32(1 / 2.4)
    depth = (1.0 - radius) * through.astype(np.float32) + 2.0 * c.wave(1 / 160)
    c.inner = depth - c.fat_mm * (1.0 + 0.5 * (c.y < 0) * (np.abs(c.z - 90.0) < 110.0))
    c.paint(depth > 0.0, _FAT)
    c.paint((depth > 0.0) & (depth < 4.0), 20.0)
    c.paint(c.inner > 0.0, _MUSCLE + 8.0 * c.wave(1 / 25))
    right = 40.0 * np.exp(-(((c.wx + 75.0) / 58.0) ** 2) - (c.wy / 78.0) ** 2)
    left = 27.0 * np.exp(-(((c.wx - 80.0) / 52.0) ** 2) - (c.wy / 78.0) ** 2)
    c.diaphragm = 203.0 + right + left - 0.5 * np.maximum(c.wy - 10.0, 0.0)


def _paint_abdomen(c: _Canvas) -> None:
    agent, below = c.contrast, c.wz < c.diaphragm - 4.0
    bowl = c.ellipsoid((75.0, 5.0, 0.0), (115.0, 78.0, 108.0))
    cavity = (c.inner > 15.0) & below & (c.wy < 52.0) & ((c.wz > 100.0) | (bowl < 0.9))
    c.paint(cavity, -95.0 + 8.0 * c.wave(1 / 30))
    loops, gas = c.wave(1 / 55), c.wave(1 / 60)
    bowel = cavity & (loops > 0.25) & (c.wz < 195.0)
    c.paint(bowel, 35.0 + 10.0 * c.wave(1 / 15))
    c.paint(bowel & (loops > 0.55) & (gas > 0.75) & (c.wy < 5.0), -750.0)
    for side in (-1.0, 1.0):
        c.paint((c.tube(56.0, side * (28.0 + 0.1 * (150.0 - c.wz)), 21.0) < 1.0) & (c.wz > 10.0) & (c.wz < 165.0), 58.0)  # psoas

    stomach = (c.ellipsoid(c.about(205, -32, 62), (42.0, 36.0, 46.0), c.rng.uniform(0.8, 1.1)) < 1.0) & below & (c.inner > 12.0)
    c.paint(stomach, 22.0)
    c.paint(stomach & (c.wy < -45.0), -850.0)  # the bubble rises to the front
    c.paint((c.ellipsoid(c.about(200, 38, 100), (44.0, 36.0, 25.0)) < 1.0) & below & (c.inner > 12.0), 52.0 + 70.0 * agent)  # spleen

    size = c.rng.uniform(0.92, 1.08)
    right = c.ellipsoid(c.about(190, -5, -72), (68.0, 82.0, 68.0), size)
    left = c.ellipsoid(c.about(208, -48, -8), (32.0, 38.0, 78.0), size)
    liver = (np.minimum(right, left) < 1.0) & below & (c.inner > 12.0) & (c.wy < 70.0)
    c.paint(liver, 58.0 + 55.0 * agent, LIVER)
    vessels = c.wave(1 / 50) ** 2 + c.wave(1 / 45) ** 2 < 0.03
    c.paint(liver & vessels, 62.0 + 95.0 * agent, LIVER)
    c.paint(c.ellipsoid(c.about(158, -48, -48), (22.0, 15.0, 14.0)) < 1.0, 12.0)  # gall bladder

    for side, height in ((-1.0, 138.0), (1.0, 148.0)):
        z, y, x = c.about(height, 36, side * 62)
        lean = 0.22 * side * (c.wz - z)  # upper poles lean towards the spine
        kidney = ((c.wz - z) / 52.0) ** 2 + ((c.wy - y) / 26.0) ** 2 + ((c.wx - x + lean) / 27.0) ** 2
        sinus = ((c.wz - z) / 26.0) ** 2 + ((c.wy - y + 6.0) / 12.0) ** 2 + ((c.wx - x + lean + side * 20.0) / 17.0) ** 2
        c.paint(kidney < 1.55, -100.0)  # perirenal fat
        c.paint(kidney < 1.0, np.where(kidney > 0.45, np.float32(38.0 + 150.0 * agent), np.float32(34.0 + 95.0 * agent)), KIDNEYS)
        c.paint(sinus < 1.0, -70.0)
    c.paint((c.tube(40.0, 10.0, 10.5) < 1.0) & (c.wz > 75.0) & (c.wz < 250.0), 45.0 + 200.0 * agent)  # aorta
    c.paint((c.tube(36.0, -16.0, 11.0) < 1.0) & (c.wz > 75.0) & (c.wz < 225.0), 42.0 + 110.0 * agent)  # inferior vena cava

    bladder = c.ellipsoid(c.about(22, -24, 0), (27.0, 30.0, 37.0), c.rng.uniform(0.75, 1.15))
    c.paint(bladder < 1.25, 42.0)  # its wall
    c.paint(bladder < 1.0, 6.0, BLADDER)


def _paint_chest(c: _Canvas) -> None:
    above = (c.wz > c.diaphragm) & (c.inner > 14.0)
    c.paint(above & (np.abs(c.wx) < 60.0) & (c.wy < 45.0), -45.0)  # mediastinum
    size = c.rng.uniform(0.94, 1.05)
    lungs = np.zeros(c.image.shape, bool)
    hilum = np.full(c.image.shape, np.inf, np.float32)
    for side in (-1.0, 1.0):
        lungs |= c.ellipsoid((238.0, 0.0, side * 77.0), (106.0, 88.0, 61.0), size) < 1.0
        hilum = np.minimum(hilum, c.ellipsoid((245.0, 8.0, side * 28.0), (60.0, 60.0, 60.0)))
    lungs &= above
    c.paint(lungs, -860.0 + 25.0 * c.wave(1 / 40) + 0.5 * c.wy, LUNGS)  # denser towards the back, where blood settles
    vessels = c.wave(1 / 36) ** 2 + c.wave(1 / 31) ** 2 < 0.3 / (0.4 + hilum)
    c.paint(lungs & vessels, 30.0 + 60.0 * c.contrast, LUNGS)
    c.paint(c.ellipsoid(c.about(232, -36, 24), (46.0, 44.0, 50.0)) < 1.0, 42.0 + 110.0 * c.contrast)  # heart
    arch = (c.tube(36.0, 14.0, 12.0) < 1.0) & (c.wz > 215.0) & (c.wz < 290.0)
    c.paint(arch, 45.0 + 200.0 * c.contrast)
    bronchi = np.minimum(c.tube(10.0, 0.9 * (270.0 - c.wz), 6.5), c.tube(10.0, 0.9 * (c.wz - 270.0), 6.5)) < 1.0
    airway = (bronchi & (c.wz > 236.0) & (c.wz < 270.0)) | ((c.tube(10.0, 0.0, 8.5) < 1.0) & (c.wz >= 266.0))
    c.paint(airway, -985.0)


def _paint_skeleton(c: _Canvas) -> None:
    spine_y = 66.0 - 9.0 * np.sin((c.z - 40.0) / 65.0)
    phase = np.mod(c.wz + c.rng.uniform(0, 30), 30.0) - 15.0
    lumbar = c.wz > 62.0
    body = ((c.wy - spine_y) / 17.0) ** 2 + (c.wx / 22.0) ** 2
    disc = np.abs(phase) > 11.5
    c.paint((body < 1.0) & disc & lumbar, 85.0)
    c.paint_bone(body, ~disc & lumbar)
    canal = ((c.wy - spine_y - 26.0) ** 2 + c.wx**2) / 9.0**2
    c.paint_bone(canal / 2.6, lumbar & (np.abs(phase) < 10.0))
    c.paint(canal < 1.0, 25.0)
    spinous = (np.abs(c.wx) < 4.5) & (c.wy > spine_y + 36.0) & (c.wy < spine_y + 58.0)
    transverse = (np.abs(c.wx) > 9.0) & (np.abs(c.wx) < 36.0) & (np.abs(c.wy - spine_y - 23.0) < 5.5)
    c.paint(lumbar & (c.inner > 2.0) & ((spinous & (np.abs(phase + 4.0) < 8.0)) | (transverse & (np.abs(phase) < 6.0))), 420.0, BONE)

    ring = np.mod(c.wz - 0.42 * c.wy, 26.0) - 13.0  # ribs run down towards the front
    rib = ((c.inner - 8.0) / 4.8) ** 2 + (ring / 5.0) ** 2
    cage = (c.wz > 150.0 + 0.55 * np.maximum(-c.wy, 0.0)) & (c.wz - 0.42 * c.wy < 385.0) & (np.abs(c.wx) > 14.0)
    cartilage = (c.wy < -55.0) & (np.abs(c.wx) < 75.0)
    c.paint_bone(rib, cage & ~cartilage)
    c.paint((rib < 1.0) & cage & cartilage, 120.0)
    plate = (np.abs(c.inner - 8.0) < 5.5) & (np.abs(c.wx) < 17.0) & (c.wy < -30.0) & (c.wz > 208.0) & (c.wz < 322.0)
    c.paint(plate, 300.0, BONE)  # sternum
    c.paint_bone(c.capsule((322.0, -72.0, 14.0), (338.0, -40.0, 135.0), 8.0))  # clavicles

    wing = np.abs(np.sqrt(c.ellipsoid((75.0, 5.0, 0.0), (120.0, 86.0, 118.0))) - 1.0) * 100.0 / 5.5
    crest = (c.wz > 8.0) & (c.wz < 98.0 - 0.006 * (c.wy - 15.0) ** 2) & (np.abs(c.wx) > 42.0) & (c.wy > -48.0)
    c.paint_bone(wing**2, crest)
    c.paint_bone(c.ellipsoid((34.0, 82.0, 0.0), (46.0, 17.0, 46.0)))  # sacrum
    socket = c.capsule((6.0, 2.0, 92.0), (6.0, 2.0, 92.5), 33.0)
    c.paint_bone(socket, np.abs(c.wx) < 94.0)
    c.paint((socket < 0.72) & (np.abs(c.wx) < 130.0), 60.0)  # the joint's gap
    c.paint_bone(c.capsule((6.0, 2.0, 92.0), (6.0, 2.0, 92.5), 24.0))  # femoral head
    c.paint_bone(c.capsule((2.0, 4.0, 98.0), (-22.0, 12.0, 126.0), 14.0))
    c.paint_bone(c.capsule((-18.0, 12.0, 126.0), (-90.0, 8.0, 116.0), 16.0))
    for start, stop, radius in (
        ((6.0, -12.0, 76.0), (-2.0, -66.0, 6.0), 8.5),  # upper ramus of the pubis
        ((0.0, 28.0, 80.0), (-38.0, 26.0, 62.0), 14.0),  # ischium
        ((-36.0, 18.0, 60.0), (-12.0, -60.0, 9.0), 7.5),  # lower ramus
    ):
        c.paint_bone(c.capsule(start, stop, radius))


def _scan(image: Field, rng: Generator) -> NDArray[np.int16]:
    """What a scanner makes of it: partial volumes and correlated noise; int16 (1, Z, Y, X)."""
    blurred = gaussian_filter(image, 0.55)
    noise = gaussian_filter(rng.standard_normal(image.shape, np.float32), 0.6)
    blurred += noise * np.float32(14.0 / noise.std())
    scan: NDArray[np.int16] = np.clip(np.rint(blurred), -1024, 3071).astype(np.int16)
    return scan[None]
