"""The networks by name, with what a command line or a saved model needs to know before it builds one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import keras

from augtrain.models.deeplabv3 import MULTIPLE as DEEPLABV3_MULTIPLE
from augtrain.models.deeplabv3 import deeplabv3
from augtrain.models.fcn2d import MULTIPLE as FCN2D_MULTIPLE
from augtrain.models.fcn2d import fcn2d
from augtrain.models.patch import Zyx, check_patch
from augtrain.models.residual_unet3d import HEADS, residual_unet3d
from augtrain.models.residual_unet3d import MULTIPLE as RESIDUAL_UNET3D_MULTIPLE
from augtrain.models.rister_fcn import MULTIPLE as RISTER_FCN_MULTIPLE
from augtrain.models.rister_fcn import rister_fcn
from augtrain.models.unet2d import MULTIPLE as UNET2D_MULTIPLE
from augtrain.models.unet2d import unet2d
from augtrain.models.unet3d import MULTIPLE as UNET3D_MULTIPLE
from augtrain.models.unet3d import unet3d


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network that can be built by name.

    Attributes:
        name: its key in NETWORKS.
        build: (classes, *, channels=1, width=1.0, patch=None) -> keras.Model; residual_unet3d also takes heads.
        dimensions: 2 (each slice is an image: input (N, Y, X, C)) or 3 (input (N, Z, Y, X, C)).
        multiple: (Z, Y, X); sides of a patch are multiples of it. 1 along Z in 2-D.
        heads: number of outputs that build gives by default; a model has a list of them where there are several.
    """

    name: str
    build: Callable[..., keras.Model]
    dimensions: int
    multiple: Zyx
    heads: int = 1

    def check_patch(self, patch: Sequence[int]) -> Zyx:
        """The patch (Z, Y, X) as three ints.

        Raises:
            PatchError: the strides forbid it; names the nearest patch that they allow.
        """
        return check_patch(self.name, patch, self.multiple)


def _networks(*networks: Network) -> Mapping[str, Network]:
    return MappingProxyType({network.name: network for network in networks})


NETWORKS: Final = _networks(
    Network(name="rister_fcn", build=rister_fcn, dimensions=3, multiple=RISTER_FCN_MULTIPLE),
    Network(name="unet3d", build=unet3d, dimensions=3, multiple=UNET3D_MULTIPLE),
    Network(name="residual_unet3d", build=residual_unet3d, dimensions=3, multiple=RESIDUAL_UNET3D_MULTIPLE, heads=HEADS),
    Network(name="unet2d", build=unet2d, dimensions=2, multiple=UNET2D_MULTIPLE),
    Network(name="fcn2d", build=fcn2d, dimensions=2, multiple=FCN2D_MULTIPLE),
    Network(name="deeplabv3", build=deeplabv3, dimensions=2, multiple=DEEPLABV3_MULTIPLE),
)
