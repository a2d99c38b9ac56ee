"""The inception module of GoogLeNet in 3-D: four paths over the same input, side by side in the output."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from augtrain.models.convolution import convolve_rectify, pool
from augtrain.models.inputs import Tensor, features


@dataclass(frozen=True, slots=True)
class Inception:
    """Feature counts of the paths: `direct` (size 1), `of_3` and `of_5` behind reductions to `to_3` and `to_5`, `pooled` after pooling.

    Source: Szegedy et al. 2015, Table 1.
    """

    direct: int
    to_3: int
    of_3: int
    to_5: int
    of_5: int
    pooled: int

    @property
    def outputs(self) -> int:
        """Features that leave the module at width 1."""
        return self.direct + self.of_3 + self.of_5 + self.pooled

    def apply(self, x: Tensor, width: float, name: str) -> Tensor:
        """Lay the module over (N, Z, Y, X, C); the concatenation is layer `name`, others are `name`_path."""
        direct = convolve_rectify(x, features(self.direct, width), 1, f"{name}_direct")
        of_3 = convolve_rectify(x, features(self.to_3, width), 1, f"{name}_to_3")
        of_3 = convolve_rectify(of_3, features(self.of_3, width), 3, f"{name}_of_3")
        of_5 = convolve_rectify(x, features(self.to_5, width), 1, f"{name}_to_5")
        of_5 = convolve_rectify(of_5, features(self.of_5, width), 5, f"{name}_of_5")
        pooled = pool(x, f"{name}_pool", size=3, stride=1)
        pooled = convolve_rectify(pooled, features(self.pooled, width), 1, f"{name}_pooled")
        return keras.layers.Concatenate(name=name)([direct, of_3, of_5, pooled])
