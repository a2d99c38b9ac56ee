import numpy as np
import pytest

from augserver.store.intensity import _percentiles, sample_of


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 2, 3, 51, 1000, 4097, 131_072])
def test_percentiles_are_numpys_to_the_bit(dtype, count):
    values = np.random.default_rng(count).normal(100, 40, count).astype(dtype)
    for percents in ((1, 50, 99), (0, 25, 100)):
        assert _percentiles(values, percents) == [float(value) for value in np.percentile(values, percents)]


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (60, 70, 81), (1, 500, 900)])
def test_the_sample_is_a_regular_grid(shape):
    voxels = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    step = max(1.0, (voxels.size / (1 << 17)) ** (1 / 3))
    rows = [np.unique(np.arange(0, size, step).astype(np.intp)) for size in shape]
    assert np.array_equal(sample_of(voxels), voxels[np.ix_(*rows)].ravel())
