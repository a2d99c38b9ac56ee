"""Random words by address: the same on any machine, for any number of workers, with any version of NumPy.

    (seed, epoch)         -> permutation of the volumes
    (seed, epoch, place)  -> 64-bit words of one sample

The words are Philox4x64-10's raw output, keyed by a SeedSequence with the address as its spawn key. Both are frozen algorithms in NumPy,
unlike the methods of Generator, so turning words into numbers is done here, in a few lines that never change.
Seeds are hashed, never added to: seed 1, epoch 0 and seed 0, epoch 1 have nothing in common.
Source: Salmon et al. 2011 (Philox); O'Neill's seed_seq design as in numpy.random.SeedSequence.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Philox, SeedSequence
from numpy.typing import NDArray

MAX_PLACES = 2**32
"""Places in an epoch. Below it a place is one 32-bit word of the spawn key, so that no two addresses share a key."""

_TO_UNIT = 2.0**-53


def words(seed: int, spawn_key: tuple[int, ...], count: int) -> NDArray[np.uint64]:
    """The first `count` words of the stream of an address; a longer request starts with the same words. About 10 us."""
    return Philox(SeedSequence(seed, spawn_key=spawn_key)).random_raw(count)


def permutation(seed: int, epoch: int, count: int) -> NDArray[np.intp]:
    """A permutation of range(count), uniform among all but for 64-bit ties (chance count**2 / 2**65)."""
    return np.argsort(words(seed, (epoch,), count), kind="stable")


def to_unit(stream: NDArray[np.uint64]) -> list[float]:
    """Doubles in [0, 1) of each word's upper 53 bits."""
    unit: list[float] = ((stream >> np.uint64(11)) * _TO_UNIT).tolist()
    return unit


def to_unit_interval(word: int) -> float:
    """The same of one word."""
    return (word >> 11) * _TO_UNIT


def to_integer(word: int, count: int) -> int:
    """An integer of range(count); uneven by at most count / 2**64."""
    return word * count >> 64
