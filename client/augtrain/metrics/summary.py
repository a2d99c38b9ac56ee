"""Scores over several volumes: per case (mean and spread of the volumes' scores) and global (voxels of all volumes pooled).

The two answer different questions (Rister table III has both): the first weighs every patient alike, the second every voxel.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from augtrain.metrics.report import Report
from augtrain.metrics.scores import CLASS_SCORES, OVERALL_SCORES, Counts, OverallScores
from augtrain.metrics.undefined import Undefined, Value, mean


@dataclass(frozen=True, slots=True)
class Spread:
    """One score over the volumes where it is defined.

    Attributes:
        mean: None where it is defined in none.
        std: sample standard deviation (n - 1); None with fewer than two cases.
        cases: how many volumes have a value.
        undefined: reason -> how many volumes have none for it.
    """

    mean: float | None
    std: float | None
    cases: int
    undefined: dict[str, int]

    @classmethod
    def of(cls, values: Sequence[Value]) -> Spread:
        """Mean and spread of the values that are numbers."""
        numbers = [value for value in values if not isinstance(value, Undefined)]
        centre = math.fsum(numbers) / len(numbers) if numbers else None
        std = None
        if centre is not None and len(numbers) > 1:
            std = math.sqrt(math.fsum((number - centre) ** 2 for number in numbers) / (len(numbers) - 1))
        reasons = Counter(str(value) for value in values if isinstance(value, Undefined))
        return cls(mean=centre, std=std, cases=len(numbers), undefined=dict(reasons))

    def to_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "std": self.std, "cases": self.cases, "undefined": self.undefined}


@dataclass(frozen=True, slots=True)
class ClassSummary:
    """One class over all volumes.

    Attributes:
        counts: voxels of all volumes together.
        global_dice: of the pooled voxels; None where no volume has the class.
        per_case: score -> its spread, for each of CLASS_SCORES.
    """

    name: str
    counts: Counts
    global_dice: float | None
    per_case: dict[str, Spread]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "voxels": {"truth": self.counts.truth, "prediction": self.counts.prediction},
            "global_dice": self.global_dice,
            "per_case": {score: spread.to_dict() for score, spread in self.per_case.items()},
        }


@dataclass(frozen=True, slots=True)
class Summary:
    """All volumes together.

    Attributes:
        per_class: by class id, ascending.
        overall: of the pooled voxels; mean_bf_score is the mean of the volumes'.
        per_case: score -> its spread over the volumes, for each of OVERALL_SCORES.
    """

    volumes: int
    per_class: dict[int, ClassSummary]
    overall: OverallScores
    per_case: dict[str, Spread]

    def to_dict(self) -> dict[str, Any]:
        """For JSON; without NaN."""
        return {
            "volumes": self.volumes,
            "overall": self.overall.to_dict(),
            "overall_per_case": {score: spread.to_dict() for score, spread in self.per_case.items()},
            "classes": {str(class_id): each.to_dict() for class_id, each in self.per_class.items()},
        }


def summarize(reports: Mapping[str, Report]) -> Summary:
    """Put the reports of several volumes together; a class that a report does not know counts as absent there.

    Args:
        reports: by the volume's name.
    """
    volumes = list(reports.values())
    ids = sorted({class_id for each in volumes for class_id in each.per_class})
    per_class = {class_id: _class_summary(class_id, volumes) for class_id in ids}
    bf_score = mean([each.overall.value("mean_bf_score") for each in volumes], Undefined.NO_CLASS)
    return Summary(
        volumes=len(volumes),
        per_class=per_class,
        overall=OverallScores.of({key: each.counts for key, each in per_class.items()}, sum(each.voxels for each in volumes), bf_score),
        per_case={score: Spread.of([each.overall.value(score) for each in volumes]) for score in OVERALL_SCORES},
    )


def _class_summary(class_id: int, volumes: Sequence[Report]) -> ClassSummary:
    known = [each.per_class[class_id] for each in volumes if class_id in each.per_class]
    unknown = [each for each in volumes if class_id not in each.per_class]
    counts = sum((scores.counts for scores in known), Counts(0, 0, 0, sum(each.voxels for each in unknown)))
    absent: list[Value] = [Undefined.ABSENT_IN_BOTH] * len(unknown)
    per_case = {score: Spread.of([scores.value(score) for scores in known] + absent) for score in CLASS_SCORES}
    pooled = counts.overlap()["dice"]
    return ClassSummary(name=known[0].name, counts=counts, global_dice=None if isinstance(pooled, Undefined) else pooled, per_case=per_case)
