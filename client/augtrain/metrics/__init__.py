"""Scores of segmentations: overlap, surface distances and boundary agreement, per class, per volume and over volumes."""

from augtrain.metrics.report import BOUNDARY_TOLERANCE, Report, check_tolerance, report
from augtrain.metrics.scores import CLASS_SCORES, OVERALL_SCORES, OVERLAP_SCORES, SURFACE_SCORES, ClassScores, Counts, OverallScores
from augtrain.metrics.summary import ClassSummary, Spread, Summary, summarize
from augtrain.metrics.undefined import Undefined

__all__ = [
    "BOUNDARY_TOLERANCE",
    "CLASS_SCORES",
    "OVERALL_SCORES",
    "OVERLAP_SCORES",
    "SURFACE_SCORES",
    "ClassScores",
    "ClassSummary",
    "Counts",
    "OverallScores",
    "Report",
    "Spread",
    "Summary",
    "Undefined",
    "check_tolerance",
    "report",
    "summarize",
]
