"""The caller's own volumes through a server's kernel: iterator in, iterator out."""

from augclient.warp.transform import Transform
from augclient.warp.warp_stream import WarpStream

__all__ = ["Transform", "WarpStream"]
