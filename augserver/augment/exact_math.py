"""Logarithm and exponential from IEEE arithmetic alone, about 1e-15: libm differs between machines, and draws must not."""

from __future__ import annotations

import math

_LN2 = 0.6931471805599453
_TERMS = 22


def ln(x: float) -> float:
    """The natural logarithm of x > 0."""
    part, exponent = math.frexp(x)
    if part < 0.7071067811865476:
        part, exponent = 2.0 * part, exponent - 1
    s = (part - 1.0) / (part + 1.0)  # ln part = 2 artanh s, |s| < 0.172
    total = 0.0
    for k in range(_TERMS, -1, -1):
        total = total * (s * s) + 1.0 / (2 * k + 1)
    return exponent * _LN2 + 2.0 * s * total


def exp(x: float) -> float:
    """e to the power of x; 0 below -700, and not meant for x above 700."""
    if x < -700.0:
        return 0.0
    whole = math.floor(x / _LN2 + 0.5)
    rest = x - whole * _LN2
    total = 1.0
    for k in range(_TERMS, 0, -1):
        total = total * rest / k + 1.0
    return math.ldexp(total, whole)
