"""The networks of the four papers in Keras 3: channels last, any patch that their strides allow, float32 probabilities out.

    name              source           dimensions   patch a multiple of (Z, Y, X)
    rister_fcn        Rister 2018           3         8,  8,  8
    unet3d            Shen 2018             3         8,  8,  8
    residual_unet3d   Nguyen                3        16, 16, 16
    unet2d            Furtado               2         1, 16, 16
    fcn2d             Furtado               2         1, 32, 32
    deeplabv3         Furtado               2         1, 16, 16

All start from random weights; nothing is downloaded. Under keras.mixed_precision's policies everything but the softmax computes in 16 bits.
"""

from augtrain.models.deeplabv3 import deeplabv3
from augtrain.models.fcn2d import fcn2d
from augtrain.models.registry import NETWORKS, Network
from augtrain.models.residual_unet3d import residual_unet3d
from augtrain.models.rister_fcn import rister_fcn
from augtrain.models.unet2d import unet2d
from augtrain.models.unet3d import unet3d

__all__ = ["NETWORKS", "Network", "deeplabv3", "fcn2d", "residual_unet3d", "rister_fcn", "unet2d", "unet3d"]
