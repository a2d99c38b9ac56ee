"""The fused augmentation kernel: crop, warp, occlude, noise and window in one pass, the same bits on every backend."""

from augserver.kernel.backend import Backend, open_backend

__all__ = ["Backend", "open_backend"]
