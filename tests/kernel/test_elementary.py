"""ln, 2^y, sine, cosine and float16 against numpy in float64; the same bits on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest

from augserver.kernel import _cpu

LN, EXP2, SINE, COSINE, HALF = range(5)
COUNT = 1 << 16


def evaluate(isa: str, function: int, values: np.ndarray) -> np.ndarray:
    out = np.zeros(values.size, np.uint32)
    _cpu.evaluate(isa, function, values.view(np.uint32), out)
    return out


def inputs(function: int) -> np.ndarray:
    rng = np.random.default_rng(function)
    if function == LN:
        near_one = (1 - 2.0 ** -rng.uniform(1, 24, COUNT // 2)).astype(np.float32)
        return np.concatenate([near_one, (2.0 ** -rng.uniform(0, 125, COUNT // 2)).astype(np.float32)])
    if function == EXP2:
        return np.concatenate([np.zeros(16, np.float32), -rng.uniform(0, 126, COUNT - 16).astype(np.float32)])
    if function in (SINE, COSINE):
        corners = (np.arange(16, dtype=np.uint64) << 28).astype(np.uint32)
        return np.concatenate([corners, rng.integers(0, 2**32, COUNT - 16, dtype=np.uint32)])
    edges = np.array(
        [0, -0.0, 1, 65504, 65519.99, 65520, 1e9, np.inf, -np.inf, 2**-14, 2**-24, 2**-25, 3 * 2**-25, 6.0e-5, 1e-30, -1], np.float32
    )
    return np.concatenate([edges, (rng.normal(0, 1, COUNT - 16) * 2.0 ** rng.uniform(-30, 18, COUNT - 16)).astype(np.float32)])


@pytest.mark.parametrize("function", [LN, EXP2, SINE, COSINE, HALF])
def test_same_bits_on_every_instruction_set(vector_isa, function):
    values = inputs(function)
    assert evaluate(vector_isa, function, values).tobytes() == evaluate("scalar", function, values).tobytes()


def test_ln_is_within_3e_7():
    x = inputs(LN)
    exact = np.log(x.astype(np.float64))
    got = evaluate("scalar", LN, x).view(np.float32)
    nonzero = exact != 0
    assert np.abs(got / np.where(nonzero, exact, 1) - 1)[nonzero].max() < 3e-7
    assert evaluate("scalar", LN, np.ones(16, np.float32)).view(np.float32).tolist() == [0.0] * 16


def test_exp2_is_within_3e_7_and_exact_at_0():
    y = inputs(EXP2)
    got = evaluate("scalar", EXP2, y).view(np.float32)
    assert np.abs(got / np.exp2(y.astype(np.float64)) - 1).max() < 3e-7
    assert (got[:16] == 1).all()


@pytest.mark.parametrize(("function", "exact"), [(SINE, np.sin), (COSINE, np.cos)])
def test_sine_and_cosine_of_a_turn_are_within_2e_7(function, exact):
    turn = inputs(function)
    got = evaluate("scalar", function, turn).view(np.float32)
    assert np.abs(got - exact(turn.astype(np.float64) * (2 * np.pi / 2**32))).max() < 2e-7


def test_float16_rounds_as_numpy_does():
    x = inputs(HALF)
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16)
    assert (evaluate("scalar", HALF, x) == expected.view(np.uint16)).all()
