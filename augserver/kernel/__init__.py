"""The fused augmentation kernel: crop, warp, occlude, noise and window in one pass, the same bits on every backend."""

from augserver.kernel.augment_queue import AugmentQueue
from augserver.kernel.backend import Backend, open_backend
from augserver.kernel.device_statistics import DeviceStatistics
from augserver.kernel.in_process import warp
from augserver.kernel.memory import allocate

__all__ = ["AugmentQueue", "Backend", "DeviceStatistics", "allocate", "open_backend", "warp"]
