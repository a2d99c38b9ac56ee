"""The noise: Random123's vectors, the documented recipe, its distribution, its independence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import stats

from augserver.kernel import _cpu, warp

VECTORS = Path(__file__).with_name("philox4x32_10_kat.txt")


def philox(isa: str, counter: list[int], key: list[int]) -> list[int]:
    out = np.zeros(4, np.uint32)
    _cpu.philox(isa, np.array(counter, np.uint32), np.array(key, np.uint32), out)
    return out.tolist()


def normals(isa: str, key: int, channel: int, block: int, count: int) -> np.ndarray:
    out = np.zeros(count, np.float32)
    _cpu.normals(isa, key, channel, block, out)
    return out


def test_known_answers_of_random123(isa):
    lines = [line for line in VECTORS.read_text().splitlines() if line and not line.startswith("#")]
    assert len(lines) == 3
    for line in lines:
        words = [int(word, 16) for word in line.split()]
        assert philox(isa, words[:4], words[4:6]) == words[6:]


def test_noise_follows_the_documented_recipe(isa):
    key, channel, block = 0xFEDCBA9876543210, 3, (1 << 33) + 5
    got = normals(isa, key, channel, block, 16)
    expected = []
    for b in range(block, block + 4):
        words = philox(isa, [b & 0xFFFFFFFF, b >> 32, channel, 0], [key & 0xFFFFFFFF, key >> 32])
        for size, turn in (words[:2], words[2:]):
            radius = np.sqrt(-2 * np.log(((size >> 1) + 0.5) / 2**31))
            expected += [radius * np.cos(2 * np.pi * turn / 2**32), radius * np.sin(2 * np.pi * turn / 2**32)]
    np.testing.assert_allclose(got, expected, atol=2e-6)


def test_noise_is_the_same_bits_on_every_instruction_set(vector_isa):
    for block in (0, 7, (1 << 32) - 9):
        assert normals(vector_isa, 99, 1, block, 4 * 1001).tobytes() == normals("scalar", 99, 1, block, 4 * 1001).tobytes()


def test_noise_is_standard_normal_in_moments_and_tails():
    n = normals(_cpu.isas()[0], 12345, 0, 0, 1 << 22).astype(np.float64)
    error = 1 / np.sqrt(n.size)  # of the mean; 5 of these are allowed
    assert abs(n.mean()) < 5 * error
    assert abs(n.var() - 1) < 5 * np.sqrt(2) * error
    assert abs(stats.skew(n)) < 5 * np.sqrt(6) * error
    assert abs(stats.kurtosis(n)) < 5 * np.sqrt(24) * error
    for limit in (1, 2, 3, 4):
        expected = 2 * stats.norm.sf(limit)
        assert abs((np.abs(n) > limit).mean() - expected) < 5 * np.sqrt(expected) * error, limit
    assert stats.kstest(n[: 1 << 18], "norm").pvalue > 1e-3
    for lag in (1, 2, 3, 4, 64):
        assert abs((n[lag:] * n[:-lag]).mean()) < 5 * error, lag


def test_channels_and_keys_have_noise_of_their_own():
    voxels = 1 << 16
    streams = [normals(_cpu.isas()[0], key, channel, 0, voxels) for key in (1, 2, 1 << 32) for channel in (0, 1)]
    correlation = np.corrcoef(streams) - np.eye(len(streams))
    assert np.abs(correlation).max() < 5 / np.sqrt(voxels)


def test_noise_does_not_repeat_when_a_volume_is_pushed_again_with_another_key():
    """The paper's library drew the same noise for every push."""
    image = np.zeros((6, 7, 16), np.float32)
    first, again, other = (warp(image, np.eye(3, 4), (6, 7, 16), noise_std=5, noise_key=key) for key in (1, 1, 2))
    assert first.tobytes() == again.tobytes()
    assert (first != other).mean() > 0.99
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.2
