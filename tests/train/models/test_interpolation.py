"""The interpolation layer against SciPy, before it has learnt anything and as a layer that can learn."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from augclient.errors import ConfigError
from augtrain.models.interpolation import LinearInterpolation
from scipy import ndimage


@pytest.mark.parametrize("factor", [2, 8])
@pytest.mark.parametrize("shape", [(3, 5, 4), (4, 7), (1, 2, 3)])
def test_it_starts_as_linear_interpolation_between_centres_of_voxels(shape: tuple[int, ...], factor: int) -> None:
    coarse = np.random.default_rng(0).normal(size=(2, *shape, 3)).astype(np.float32)
    fine = keras.ops.convert_to_numpy(LinearInterpolation(factor)(coarse))
    zoom = (1, *(factor,) * len(shape), 1)
    expected = ndimage.zoom(coarse, zoom, order=1, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(fine, expected, atol=2e-6)


def test_a_ramp_stays_a_ramp_with_an_eighth_of_its_slope() -> None:
    z, y, x = np.meshgrid(*(np.arange(side) for side in (4, 3, 5)), indexing="ij")
    ramp = (100 * z + 10 * y - x).astype(np.float32)[None, ..., None]
    fine = keras.ops.convert_to_numpy(LinearInterpolation(8)(ramp))[0, ..., 0]
    inner = fine[4:-4, 4:-4, 4:-4]
    for axis, slope in enumerate((100 / 8, 10 / 8, -1 / 8)):
        np.testing.assert_allclose(np.diff(inner, axis=axis), slope, atol=1e-4)
    np.testing.assert_allclose(inner[0, 0, 0], 100 / 16 + 10 / 16 - 1 / 16, atol=1e-4)  # 1/16 of a voxel past the centre of voxel 0
    np.testing.assert_allclose(fine[0, 0, 0], 0, atol=1e-6)  # beyond the outermost centres it stays, and does not fade


def test_classes_do_not_mix_before_training_and_the_kernel_can_be_trained_or_kept() -> None:
    layer = LinearInterpolation(2)
    one = np.zeros((1, 2, 3, 4), np.float32)
    one[..., 1] = 1
    assert set(np.unique(keras.ops.convert_to_numpy(layer(one))[..., [0, 2, 3]])) == {0.0}
    assert [tuple(weight.shape) for weight in layer.trainable_weights] == [(4, 4, 4, 4)]
    kept = LinearInterpolation(2, trainable=False)
    kept(one)
    assert kept.trainable_weights == []


def test_it_survives_saving_by_configuration() -> None:
    layer = LinearInterpolation(8, trainable=False, name="finer")
    again = LinearInterpolation.from_config(layer.get_config())
    assert (again.factor, again.trainable, again.name) == (8, False, "finer")


@pytest.mark.parametrize("factor", [0, 1, 3])
def test_other_factors_are_refused(factor: int) -> None:
    with pytest.raises(ConfigError, match="even"):
        LinearInterpolation(factor)
