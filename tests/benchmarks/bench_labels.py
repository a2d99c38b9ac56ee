"""Time labels by weight against the nearest voxel's, and against batchgeneratorsv2, for few and many labels, interleaved in one run.

    python tests/benchmarks/bench_labels.py [--rounds 7] [--peer]

A patch of 128^3 out of 205^3, rotated and scaled, on one thread: image and label of ours, the label alone of the peer's SpatialTransform.
A figure is the median over rounds of milliseconds per patch. The last line says what 57 labels cost against 2.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from augserver.augment.sample import SampleParams
from augserver.kernel import allocate, open_backend
from augserver.volume import Volume, VolumeInfo

SHAPE, PATCH = (205, 205, 205), (128, 128, 128)
COUNTS = (2, 7, 57)
RULES = ("nearest", "linear")
ANGLES = (0.3, 0.2, -0.25)
SCALE = 1.1


def make_volume(labels: int) -> Volume:
    """Noise, and labels in lumps of some 20 voxels."""
    rng = np.random.default_rng(labels)
    fields = [ndimage.gaussian_filter(rng.normal(size=(52, 52, 52)), 3) for _ in range(labels)]
    lumps = ndimage.zoom(np.argmax(fields, axis=0).astype(np.uint8), 4, order=0)[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    image, label = allocate((1, *SHAPE), np.int16), allocate(SHAPE, np.uint8)
    image[...], label[...] = rng.integers(-1000, 1000, image.shape), lumps
    info = VolumeInfo(id="lumps", shape=image.shape, dtype="int16", spacing_mm=(1, 1, 1), affine=np.eye(4), has_label=True)
    return Volume(info=info, image=image, label=label)


def make_affine() -> NDArray[np.float32]:
    """Rotation about x, y, z by ANGLES, and SCALE, about the middle."""
    matrix = np.eye(3) * SCALE
    for (a, b), angle in zip(((1, 2), (0, 2), (0, 1)), ANGLES, strict=True):
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    offset = (np.array(SHAPE) - 1) / 2 - matrix @ ((np.array(PATCH) - 1) / 2)
    return np.hstack([matrix, offset[:, None]]).astype(np.float32)


def peer_of(volume: Volume) -> Callable[[], Any]:
    """The label of SpatialTransform as nnU-Net configures it, on one thread; the map is made before."""
    import torch
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

    torch.set_num_threads(1)
    transform = SpatialTransform(
        PATCH,
        0,
        random_crop=False,
        p_rotation=1,
        rotation=lambda image, dim: ANGLES[dim],
        p_scaling=1,
        scaling=(SCALE, SCALE),
        p_synchronize_scaling_across_axes=1,
        border_mode_seg="constant",
        padding_value_seg=-1,
    )
    assert volume.label is not None  # made above
    label = torch.from_numpy(volume.label[None].astype(np.int16))
    parameters = transform.get_parameters(image=label)
    return lambda: transform._apply_to_segmentation(label, **parameters)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peer", action="store_true", help="with batchgeneratorsv2, which takes seconds a patch")
    arguments = parser.parse_args()
    affine, seconds = make_affine(), {}
    with open_backend("cpu", threads=1) as backend:
        out, ids = backend.allocate((1, 1, *PATCH), np.float32), backend.allocate((1, *PATCH), np.uint8)
        contenders: dict[tuple[str, int], Callable[[], Any]] = {}
        for count in COUNTS:
            volume = make_volume(count)
            for rule in RULES:
                params = SampleParams(affine=affine, fill=-1000.0, label_rule=rule)
                contenders[rule, count] = lambda volume=volume, params=params: backend.augment([volume], [params], out, ids)
            if arguments.peer:
                contenders["batchgeneratorsv2", count] = peer_of(volume)
        for number in range(arguments.rounds + 1):
            for name, run in contenders.items():
                began = time.perf_counter()
                run()
                if number:  # the first round warms up
                    seconds.setdefault(name, []).append(time.perf_counter() - began)
        print(backend.description)
    medians = {name: 1e3 * statistics.median(each) for name, each in seconds.items()}
    for (name, count), ms in medians.items():
        print(f"{name:<18} {count:>3} labels {ms:9.2f} ms")
    for name in dict.fromkeys(name for name, _ in medians):
        print(f"{name:<18} {COUNTS[-1]} labels cost {medians[name, COUNTS[-1]] / medians[name, COUNTS[0]]:.2f} times {COUNTS[0]}")


if __name__ == "__main__":
    main()
