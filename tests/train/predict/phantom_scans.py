"""Scans in all positions, whose voxels and labels are known by formula, and a server of them in processes of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import augclient
import nibabel
import numpy as np
from numpy.typing import NDArray

AUGSERVER = [sys.executable, "-P", "-c", "from augserver.cli import main; main()"]
SOFT_HU, BONE_HU, AIR_HU = 60, 700, -1000


@dataclass(frozen=True)
class Position:
    """How a scan lies in the patient.

    Attributes:
        order: of its file's axes x, y, z along the patient's Right, Anterior, Superior; signs: from which end.
        turned_deg: about the patient's axes.
        shear: how far each plane is shifted along the second axis, in steps of that.
    """

    order: tuple[int, int, int] = (0, 1, 2)
    signs: tuple[int, int, int] = (1, 1, 1)
    turned_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shear: float = 0.0

    def matrix(self, spacing_mm: Sequence[float]) -> NDArray[np.float64]:
        """xyz voxel -> RAS mm."""
        a, b, c = np.radians(self.turned_deg)
        about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
        axes = (about_z @ about_y @ about_x)[:, self.order] * self.signs * np.asarray(spacing_mm)
        axes[:, 2] += self.shear * axes[:, 1]
        matrix = np.eye(4)
        matrix[:3, :3] = axes
        matrix[:3, 3] = [17.0, -31.0, 205.0]
        return matrix


POSITIONS = {
    "upright": Position(),
    "oblique": Position(turned_deg=(11.0, -17.0, 23.0)),
    "flipped": Position(order=(2, 0, 1), signs=(-1, 1, -1)),
    "oblique_flipped": Position(order=(1, 2, 0), signs=(-1, -1, 1), turned_deg=(-14.0, 9.0, 21.0)),
    "sheared": Position(shear=0.2),
}


def write_scan(folder: Path, name: str, position: Position) -> None:
    """folder/scans/name.nii.gz and folder/labels/name.nii.gz: two ellipsoids, 1 soft, 2 bone, apart from each other.

    No axis, size or place is like another, so that a wrong transpose or flip does not go unseen.
    """
    shape, spacing = (84, 100, 72), (1.6, 1.2, 2.1)
    x, y, z = (((np.arange(n) - (n - 1) / 2) * step).astype(np.float32) for n, step in zip(shape, spacing, strict=True))
    x, y, z = x[:, None, None], y[None, :, None], z[None, None, :]
    soft = ((x + 25) / 40) ** 2 + ((y - 6) / 37) ** 2 + ((z + 9) / 52) ** 2 < 1
    bone = ((x - 41) / 25) ** 2 + ((y + 15) / 41) ** 2 + ((z - 18) / 52) ** 2 < 1
    label = np.zeros(shape, np.uint8)
    label[soft] = 1
    label[bone] = 2
    image = np.choose(label, [AIR_HU, SOFT_HU, BONE_HU]).astype(np.int16)
    for kind, voxels in (("scans", image), ("labels", label)):
        nibabel.save(nibabel.Nifti1Image(voxels, position.matrix(spacing)), folder / kind / f"{name}.nii.gz")


@contextmanager
def serving(scans: Path, labels: Path, dataset: Path, log: Path) -> Iterator[augclient.Server]:
    """Ingest scans with labels at 3 mm, serve them, and connect."""
    options = ["--labels", str(labels), "--out", str(dataset), "--spacing-mm", "3"]
    subprocess.run([*AUGSERVER, "ingest", str(scans), *options], check=True, stdout=subprocess.DEVNULL)
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*AUGSERVER, "serve", str(dataset), "--address", "127.0.0.1:0", "--backend", "cpu"], stdout=subprocess.PIPE, stderr=errors
        )
        assert process.stdout is not None
        try:
            with augclient.connect(process.stdout.readline().decode().split()[2]) as server:
                yield server
        finally:
            process.terminate()
            process.wait(30)
            process.stdout.close()


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))
