"""The streams of random words: known answers, and their independence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.random import SeedSequence
from scipy import stats

from augserver.augment.random import permutation, to_integer, to_unit, words

VECTORS = [line.split() for line in Path(__file__).with_name("random_vectors.txt").read_text().splitlines() if line and line[0] != "#"]
STREAMS = [row[1:] for row in VECTORS if row[0] == "stream"]
ORDERS = [row[1:] for row in VECTORS if row[0] == "order"]
PHILOX = [row[1:] for row in VECTORS if row[0] == "philox"]

MASK = 2**64 - 1


def philox4x64(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x64-10 from the paper's definition, in Python integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [(p1 >> 64) ^ c[1] ^ k[0], p1 & MASK, (p0 >> 64) ^ c[3] ^ k[1], p0 & MASK]
        k = [(k[0] + 0x9E3779B97F4A7C15) & MASK, (k[1] + 0xBB67AE8584CAA73B) & MASK]
    return c


@pytest.mark.parametrize("row", PHILOX)
def test_the_reference_philox_gives_the_published_answers(row: list[str]) -> None:
    numbers = [int(word, 16) for word in row]
    assert philox4x64(numbers[:4], numbers[4:6]) == numbers[6:]


@pytest.mark.parametrize("row", STREAMS)
def test_words_of_an_address_equal_the_recorded_and_the_reference(row: list[str]) -> None:
    seed, epoch, place = map(int, row[:3])
    expected = [int(word, 16) for word in row[3:]]
    assert words(seed, (epoch, place), len(expected)).tolist() == expected
    key = SeedSequence(seed, spawn_key=(epoch, place)).generate_state(2, np.uint64).tolist()
    reference = [word for block in range(1, len(expected) // 4 + 1) for word in philox4x64([block, 0, 0, 0], key)]
    assert reference == expected


@pytest.mark.parametrize("row", ORDERS)
def test_permutations_equal_the_recorded(row: list[str]) -> None:
    seed, epoch, *order = map(int, row)
    assert permutation(seed, epoch, len(order)).tolist() == order


def test_a_longer_request_starts_with_the_same_words() -> None:
    assert words(5, (2, 3), 100)[:7].tolist() == words(5, (2, 3), 7).tolist()


def test_neighbouring_addresses_share_no_word() -> None:
    addresses = [(s, e, p) for s in (0, 1, 2, 2**32, 2**63) for e in (0, 1, 2**32, 2**40) for p in range(40)]
    streams = np.concatenate([words(s, (e, p), 8) for s, e, p in addresses])
    assert len(np.unique(streams)) == streams.size


def test_unit_numbers_are_uniform_below_one() -> None:
    unit = to_unit(words(3, (0, 0), 20_000))
    assert min(unit) >= 0.0
    assert max(unit) < 1.0
    assert stats.kstest(unit, "uniform").pvalue > 0.01
    assert to_unit(np.array([2**64 - 1, 0, 1 << 63], np.uint64)) == [1.0 - 2.0**-53, 0.0, 0.5]


def test_integers_are_uniform_over_the_whole_range() -> None:
    drawn = [to_integer(word, 7) for word in words(4, (0, 0), 14_000).tolist()]
    assert stats.chisquare(np.bincount(drawn, minlength=7)).pvalue > 0.01
    assert (to_integer(0, 7), to_integer(2**64 - 1, 7)) == (0, 6)


def test_every_permutation_of_three_is_as_likely() -> None:
    drawn = [tuple(permutation(11, epoch, 3).tolist()) for epoch in range(3000)]
    counts = [drawn.count(order) for order in sorted(set(drawn))]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 0.01
