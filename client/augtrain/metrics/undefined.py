"""Why a score has no value."""

from __future__ import annotations

from enum import StrEnum


class Undefined(StrEnum):
    """The reason that stands where a number cannot: never zero, which would be a bad score, and never NaN, which JSON has no word for."""

    ABSENT_IN_TRUTH = "absent in truth"
    ABSENT_IN_PREDICTION = "absent in prediction"
    ABSENT_IN_BOTH = "absent in truth and prediction"
    FILLS_TRUTH = "fills the truth: there is nothing else to be specific about"
    NO_SURFACE = "has no surface that is not hidden by ignored voxels"
    NOT_MEASURED = "not measured"
    NO_CLASS = "no class has a value"
    ALL_IGNORED = "every voxel is ignored"


Value = float | Undefined


def ratio(numerator: float, denominator: float, otherwise: Undefined) -> Value:
    """The quotient, or the reason where the denominator is 0."""
    return numerator / denominator if denominator else otherwise


def mean(values: list[Value], otherwise: Undefined) -> Value:
    """Mean of those that have a value, or the reason where none has."""
    defined = [value for value in values if not isinstance(value, Undefined)]
    return ratio(sum(defined), len(defined), otherwise)


def split(values: dict[str, Value]) -> tuple[dict[str, float | None], dict[str, Undefined]]:
    """Numbers with None where there is none, and the reasons for those."""
    reasons = {key: value for key, value in values.items() if isinstance(value, Undefined)}
    return {key: None if isinstance(value, Undefined) else value for key, value in values.items()}, reasons
