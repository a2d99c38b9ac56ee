"""The benchmark's batch through each kernel, alone, twice: what ncu looks at. The first launch warms the caches."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))  # check.sh runs Python without the script's folder on its path

import bench_gpu

from augserver.config import CudaConfig
from augserver.kernel.batch import pack_batch

SCALE = bench_gpu.Scale(rounds=1, batches=1, shrink=int(os.environ.get("AUGSERVER_SHRINK", "1")))


def main() -> None:
    load = bench_gpu.Workload(SCALE)
    size = 256 * bench_gpu.MIB // SCALE.shrink
    config = CudaConfig(fatbin=os.environ.get("AUGSERVER_FATBIN", ""), slot_bytes=size, volume_bytes=size, texture_bytes=size)
    with bench_gpu.device_of(config) as (device, pinned):
        slot = device.slots[0]
        for dtype, sampler in (("int16", "exact"), ("float32", "exact"), ("int16", "texture")):
            image = pinned.allocate((bench_gpu.BATCH, 1, *SCALE.patch), np.float32)
            label = pinned.allocate((bench_gpu.BATCH, *SCALE.patch), np.uint8)
            batch = pack_batch(load.volumes(bench_gpu.BATCH, dtype), load.batch_params(sampler), image, label)
            for _ in range(2):
                device.enqueue(slot, batch)
                slot.done.synchronize()
                device.memory.residency(sampler).release(slot.residents)


if __name__ == "__main__":
    main()
