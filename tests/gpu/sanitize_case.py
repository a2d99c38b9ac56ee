"""A few small batches through every kernel, for compute-sanitizer: `compute-sanitizer --tool memcheck python sanitize_case.py`."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "kernel"))  # check.sh runs Python without the script's folder on its path

import step_programs

from augserver.augment.sample import SampleParams
from augserver.config import CudaConfig
from augserver.kernel import open_backend
from augserver.volume import Volume, VolumeInfo

PATCH = (9, 13, 70)  # not a multiple of a thread's voxels, a block's, or a row's
AFFINE = np.array([[1.1, 0.1, 0, -3], [0, 0.9, 0.2, -2], [0.1, 0, -1.05, 60]], np.float32)  # leaves the volume on every side


def main() -> None:
    rng = np.random.default_rng(0)
    config = CudaConfig(fatbin=os.environ.get("AUGSERVER_FATBIN", ""), slot_bytes=4 << 20, volume_bytes=4 << 20, staging_bytes=1 << 20)
    params = SampleParams(affine=AFFINE, fill=-1000.0, noise_std=9.0, noise_key=5, window=(-900.0, 900.0), gamma=0.7, occlusion=(2, 4))
    gpu = open_backend("cuda", cuda=config)
    for dtype in (np.int16, np.float32):
        image = rng.integers(-1000, 1000, (2, 11, 17, 61)).astype(dtype)
        label = rng.integers(0, 9, image.shape[1:]).astype(np.uint8)
        info = VolumeInfo(id="v", shape=image.shape, dtype=image.dtype.name, spacing_mm=(1.0, 1.0, 1.0), affine=np.eye(4), has_label=True)
        for out in (np.float32, np.float16, np.uint8):
            for sampler in ("exact", "texture"):
                result, labels = gpu.allocate((3, 2, *PATCH), out), gpu.allocate((3, *PATCH), np.uint8)
                gpu.augment([Volume(info=info, image=image, label=label)] * 3, [replace(params, sampler=sampler)] * 3, result, labels)
                steps = [
                    [{"op": "contrast", "factor": 1.5}, {"op": "noise", "std": 3.0}, {"op": "blur", "sigma": 0.5}],
                    [{"op": "shift", "offset": 2.0}],
                ]
                plain = replace(params, sampler=sampler, occlusion=None)
                programmed = step_programs.with_program(plain, steps, out)
                three = [programmed, plain, programmed]
                gpu.augment([Volume(info=info, image=image, label=label)] * 3, three, result, labels)
    gpu.close()


if __name__ == "__main__":
    main()
