"""A step on a patch, by the kernel; its equal elsewhere is called with the same values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from augserver.augment.sample import SampleParams
from augserver.augment.step_rules import read_applied
from augserver.kernel import open_backend
from augserver.kernel.cpu import instruction_sets
from augserver.volume import Volume, VolumeInfo

Apply = Callable[..., NDArray[np.float32]]


@pytest.fixture
def image() -> NDArray[np.float32]:
    """Two channels (2, 17, 23, 30) with unlike means and deviations."""
    rng = np.random.default_rng(4)
    return (
        rng.normal(0, 1, (2, 17, 23, 30)) * np.array([1.0, 40.0])[:, None, None, None] + np.array([0.5, -80.0])[:, None, None, None]
    ).astype(np.float32)


@pytest.fixture
def apply() -> Apply:
    """apply(image, {"op": ..., key: explicit value}, ...): the image after these steps, whose bytes no instruction set changes."""

    def run(image: NDArray[np.float32], *tables: dict[str, Any]) -> NDArray[np.float32]:
        channels = len(image)
        steps = []
        for number, table in enumerate(tables, 1):
            keys = dict(table)
            op, changed = keys.pop("op"), keys.pop("channels", range(channels))
            steps.append(read_applied(op, tuple(changed), keys, number, channels))
        info = VolumeInfo(id="patch", shape=image.shape, dtype="float32", spacing_mm=(1.0, 1.0, 1.0), affine=np.eye(4), has_label=False)
        results = []
        for isa in instruction_sets():
            with open_backend("cpu", threads=2, isa=isa) as backend:
                out = backend.allocate((1, *image.shape), np.float32)
                params = SampleParams(affine=np.eye(3, 4, dtype=np.float32), steps=tuple(steps))
                backend.augment([Volume(info=info, image=image, label=None)], [params], out)
                results.append(out[0].copy())
        assert len({result.tobytes() for result in results}) == 1
        return results[0]

    return run


@pytest.fixture
def equal() -> Callable[[Any, Any, float], None]:
    """equal(ours, theirs, share): no voxel differs by more than this share of the channel's standard deviation."""

    def check(ours: Any, theirs: Any, share: float = 1e-4) -> None:
        theirs = np.asarray(theirs, np.float64)
        spread = theirs.std(axis=(1, 2, 3), keepdims=True)
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max(axis=(1, 2, 3)).tolist() <= (share * spread.ravel()).tolist()
        assert (np.abs(ours - theirs) <= share * spread).all()

    return check
