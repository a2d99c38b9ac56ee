"""The four papers' losses, for Keras 3 on TensorFlow, JAX or PyTorch.

    CrossEntropy     plain, balanced per image, inverse to the dataset's frequencies, given weights    Rister eq. 4, Furtado 2.2
    IoU              power or curve, weights of false positives and negatives, background in or out    Rister eq. 5, 8, 9, Furtado 2.2
    Dice             uniform, simple, square weights; per image or over the batch                      Shen eq. 3-6, Nguyen eq. 4, 5
    MultiResolution  one loss at several resolutions, fixed or trainable coefficients                  Nguyen eq. 6
    Sum              weighted sum of losses
    SupervisedModel  a network with all its outputs under one loss, for Model.fit
    parse_loss       a loss from text or a TOML table

All are Keras losses: loss(y_true, y_pred). y_pred: probabilities (N, [Z,] Y, X, K), float16, bfloat16, float32 or float64; the sums are
float32 (float64 for float64). y_true: ids (N, [Z,] Y, X) of any number type, or one-hot (N, [Z,] Y, X, K). Voxels of the id `ignore` have
no say. Values do not depend on the number of voxels: a patch may have any size.
"""

from augtrain.losses.cross_entropy import CrossEntropy
from augtrain.losses.dice import Dice
from augtrain.losses.iou import IoU
from augtrain.losses.multi_resolution import MultiResolution
from augtrain.losses.notation import parse_loss
from augtrain.losses.segmentation_loss import SegmentationLoss
from augtrain.losses.supervised_model import SupervisedModel
from augtrain.losses.truth import check_label_ids
from augtrain.losses.weighted_sum import Sum

__all__ = [
    "CrossEntropy",
    "Dice",
    "IoU",
    "MultiResolution",
    "SegmentationLoss",
    "Sum",
    "SupervisedModel",
    "check_label_ids",
    "parse_loss",
]
