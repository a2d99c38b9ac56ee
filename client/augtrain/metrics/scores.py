"""Scores of one class, and of all classes together, from counts of voxels and distances of surfaces.

Formulas (T truth, P prediction, TP = |T and P|, FP, FN, TN likewise; all ratios have no unit, distances are in mm):

    dice         2 TP / (2 TP + FP + FN)                      Furtado 8, Shen 1
    jaccard      TP / (TP + FP + FN), IoU                     Furtado 7
    voe          1 - jaccard, volumetric overlap error        Rister VI-D (LiTS)
    rvd          (|P| - |T|) / |T|, > 0: too much             Rister VI-D (LiTS)
    sensitivity  TP / (TP + FN), recall                       Furtado 2
    specificity  TN / (TN + FP)                               Furtado 3
    precision    TP / (TP + FP)                               Furtado 4
    assd, rmsd, mssd, hd95, bf_score                          surfaces.py

A class that only one of the two has is a miss, and scores one: Dice, Jaccard and bf_score are 0, VOE is 1; what would divide by zero or
measure to a surface that is not there is undefined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from augtrain.metrics.surfaces import SurfaceDistances
from augtrain.metrics.undefined import Undefined, Value, mean, ratio, split

OVERLAP_SCORES = ("dice", "jaccard", "voe", "rvd", "sensitivity", "specificity", "precision")
SURFACE_SCORES = ("assd", "mssd", "rmsd", "hd95", "bf_score")
CLASS_SCORES = OVERLAP_SCORES + SURFACE_SCORES
OVERALL_SCORES = ("dice", "mean_dice", "accuracy", "mean_iou", "weighted_iou", "mean_sensitivity", "mean_bf_score")


@dataclass(frozen=True, slots=True)
class Counts:
    """Voxels of one class, ignored ones left out."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def truth(self) -> int:
        return self.tp + self.fn

    @property
    def prediction(self) -> int:
        return self.tp + self.fp

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    def overlap(self) -> dict[str, Value]:
        """The scores of OVERLAP_SCORES."""
        jaccard = ratio(self.tp, self.tp + self.fp + self.fn, Undefined.ABSENT_IN_BOTH)
        in_truth = Undefined.ABSENT_IN_TRUTH if self.prediction else Undefined.ABSENT_IN_BOTH
        in_prediction = Undefined.ABSENT_IN_PREDICTION if self.truth else Undefined.ABSENT_IN_BOTH
        return {
            "dice": ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn, Undefined.ABSENT_IN_BOTH),
            "jaccard": jaccard,
            "voe": jaccard if isinstance(jaccard, Undefined) else 1 - jaccard,
            "rvd": ratio(self.prediction - self.truth, self.truth, in_truth),
            "sensitivity": ratio(self.tp, self.truth, in_truth),
            "specificity": ratio(self.tn, self.tn + self.fp, Undefined.FILLS_TRUTH if self.truth else Undefined.ALL_IGNORED),
            "precision": ratio(self.tp, self.prediction, in_prediction),
        }


@dataclass(frozen=True, slots=True)
class ClassScores:
    """One class in one volume; a score is None where `undefined` names the reason."""

    name: str
    counts: Counts
    dice: float | None
    jaccard: float | None
    voe: float | None
    rvd: float | None
    sensitivity: float | None
    specificity: float | None
    precision: float | None
    assd: float | None
    mssd: float | None
    rmsd: float | None
    hd95: float | None
    bf_score: float | None
    undefined: dict[str, Undefined]

    @classmethod
    def of(cls, name: str, counts: Counts, surface: SurfaceDistances | Undefined, tolerance_mm: float) -> ClassScores:
        """The scores of one class.

        Args:
            surface: or why there is none.
            tolerance_mm: of the boundary F-score.
        """
        values, undefined = split(counts.overlap() | _surface_scores(counts, surface, tolerance_mm))
        return cls(name=name, counts=counts, undefined=undefined, **values)

    def value(self, score: str) -> Value:
        """One of CLASS_SCORES, or why it is undefined."""
        return self.undefined[score] if score in self.undefined else getattr(self, score)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: every score, null where "undefined" has the reason."""
        voxels = {"truth": self.counts.truth, "prediction": self.counts.prediction} | asdict(self.counts)
        scores = {score: getattr(self, score) for score in CLASS_SCORES}
        return {"name": self.name, "voxels": voxels, **scores, "undefined": {key: str(reason) for key, reason in self.undefined.items()}}


@dataclass(frozen=True, slots=True)
class OverallScores:
    """All classes together; None where `undefined` names the reason.

    Attributes:
        dice: of the organs (all classes but background) pooled: 2 sum TP / sum (2 TP + FP + FN).
        mean_dice: mean over the organs that truth or prediction has.
        accuracy: share of voxels whose class is right, background included (Furtado, table 2, as the next three).
        mean_iou: mean Jaccard over the classes that truth or prediction has, background included.
        weighted_iou: the same, weighted by the truth's voxels.
        mean_sensitivity: mean over the classes that the truth has, background included.
        mean_bf_score: mean over the organs that truth or prediction has.
    """

    dice: float | None
    mean_dice: float | None
    accuracy: float | None
    mean_iou: float | None
    weighted_iou: float | None
    mean_sensitivity: float | None
    mean_bf_score: float | None
    undefined: dict[str, Undefined]

    @classmethod
    def of(cls, counts: Mapping[int, Counts], voxels: int, mean_bf_score: Value) -> OverallScores:
        """The scores of all classes together.

        Args:
            counts: by class id; 0 is the background.
            voxels: all that have a say.
            mean_bf_score: as above; not to be had from counts.
        """
        organs = [each for class_id, each in counts.items() if class_id]
        jaccards = [(each.overlap()["jaccard"], each.truth) for each in counts.values()]
        weighted = sum(value * truth for value, truth in jaccards if not isinstance(value, Undefined))
        values: dict[str, Value] = {
            "dice": sum(organs, Counts(0, 0, 0, 0)).overlap()["dice"],
            "mean_dice": mean([each.overlap()["dice"] for each in organs], Undefined.NO_CLASS),
            "accuracy": ratio(sum(each.tp for each in counts.values()), voxels, Undefined.ALL_IGNORED),
            "mean_iou": mean([value for value, _ in jaccards], Undefined.NO_CLASS),
            "weighted_iou": ratio(weighted, sum(truth for _, truth in jaccards), Undefined.NO_CLASS),
            "mean_sensitivity": mean([each.overlap()["sensitivity"] for each in counts.values()], Undefined.NO_CLASS),
            "mean_bf_score": mean_bf_score,
        }
        numbers, undefined = split(values)
        return cls(undefined=undefined, **numbers)

    def value(self, score: str) -> Value:
        """One of OVERALL_SCORES, or why it is undefined."""
        return self.undefined[score] if score in self.undefined else getattr(self, score)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: every score, null where "undefined" has the reason."""
        scores = {score: getattr(self, score) for score in OVERALL_SCORES}
        return scores | {"undefined": {key: str(reason) for key, reason in self.undefined.items()}}


def _surface_scores(counts: Counts, surface: SurfaceDistances | Undefined, tolerance_mm: float) -> dict[str, Value]:
    if not isinstance(surface, Undefined):
        return {
            "assd": surface.assd(),
            "mssd": surface.mssd(),
            "rmsd": surface.rmsd(),
            "hd95": surface.hd95(),
            "bf_score": surface.bf_score(tolerance_mm),
        }
    missed = surface in (Undefined.ABSENT_IN_TRUTH, Undefined.ABSENT_IN_PREDICTION)
    return dict.fromkeys(SURFACE_SCORES, surface) | ({"bf_score": 0.0} if missed else {})
